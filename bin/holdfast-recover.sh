#!/bin/sh
# Restores a snapshot from a holdfast repository (format version 1, docs/format.md) in a folder, without holdfast.
# Needs age, zstd, GNU tar, jq 1.6 or newer and GNU coreutils. The repository is only read.
# How to get the key file from the 24 words: docs/recovery.md.
set -eu
umask 077
LC_ALL=C
export LC_ALL

usage() {
  cat <<'TEXT'
usage: holdfast-recover.sh --identity KEYFILE --repository DIR --target DIR [--snapshot latest|ID]
                           [--with-secrets] [--check-ids]
       holdfast-recover.sh --identity KEYFILE --repository DIR --list

  --identity      file with the age identity (AGE-SECRET-KEY-1...) of a restore recipient
  --repository    folder that holds the folders packs, index and snapshots
  --target        folder to restore into: new or empty
  --snapshot      the newest when not given; else an id as --list shows it, or its first 4 digits or more
  --with-secrets  also what the snapshot keeps apart: keys, tokens
  --check-ids     also compare every chunk with its id (HMAC-SHA-256): a few hundred a second
  --list          only print number, time, id, files and bytes of each snapshot

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but files are lost, something could not be put back, or a newer
snapshot (with --list: any) could not be opened.
TEXT
}
say() { printf '%s\n' "$*" >&2; }
die() {
  say "holdfast-recover: $*"
  exit 1
}
misuse() {
  say "holdfast-recover: $*"
  usage >&2
  exit 2
}
absolute() {
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$PWD" "$1" ;;
  esac
}

identity='' repository='' target='' snapshot=latest withSecrets='' checkIds='' list=''
while [ $# -gt 0 ]; do
  case $1 in
    --identity | --repository | --target | --snapshot) [ $# -ge 2 ] || misuse "$1 needs a value" ;;
  esac
  case $1 in
    --identity) identity=$2 && shift ;;
    --repository) repository=$2 && shift ;;
    --target) target=$2 && shift ;;
    --snapshot) snapshot=$2 && shift ;;
    --with-secrets) withSecrets=1 ;;
    --check-ids) checkIds=1 ;;
    --list) list=1 ;;
    -h | --help) usage && exit 0 ;;
    *) misuse "what is $1?" ;;
  esac
  shift
done
if [ -z "$identity" ] || [ -z "$repository" ]; then misuse '--identity and --repository are needed'; fi
if [ -z "$target" ] && [ -z "$list" ]; then misuse '--target is needed'; fi
case $snapshot in
  latest) ;;
  *[!0-9a-f]* | '' | ? | ?? | ???) misuse '--snapshot takes "latest" or at least 4 digits of an id' ;;
esac
for tool in age zstd tar jq basenc; do
  command -v "$tool" >/dev/null || die "the program $tool is missing (on Debian: apt install age zstd tar jq coreutils)"
done
if ! [ -f "$identity" ] || ! [ -r "$identity" ]; then die "cannot read the key file $identity"; fi
[ -d "$repository/snapshots" ] || die "$repository holds no snapshots: it is no holdfast repository, or nothing was ever backed up to it"
identity=$(absolute "$identity")
repository=$(absolute "$repository")
parent=${TMPDIR:-/tmp}
if [ -z "$list" ]; then
  target=$(absolute "$target")
  parent=$(dirname -- "$target")
  [ -d "$parent" ] || die "the folder $parent does not exist"
  if [ -d "$target" ]; then
    [ -z "$(ls -A -- "$target")" ] || die "the target $target is not empty; nothing was changed"
  elif [ -e "$target" ] || [ -L "$target" ]; then
    die "the target $target is not a folder; nothing was changed"
  fi
fi

writing=''
tmp=$(mktemp -d -- "$parent/.holdfast-recover.XXXXXXXXXX")
finish() {
  status=$?
  trap - EXIT HUP INT TERM
  rm -rf -- "$tmp"
  [ -z "$writing" ] || say "The restore has not ended: $target does not hold everything. Remove it before you try again."
  exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- the snapshot ----

: >"$tmp/snapshots"
: >"$tmp/unopened"
for file in "$repository"/snapshots/*-*.age; do
  id=${file##*-}
  id=${id%.age}
  case $id in *[!0-9a-f]*) continue ;; esac
  if age --decrypt -i "$identity" -- "$file" 2>"$tmp/why" >"$tmp/envelope" &&
    jq -r .payload "$tmp/envelope" 2>"$tmp/why" | base64 -d 2>"$tmp/why" >"$tmp/$id.json" &&
    jq -er --arg id "$id" 'select((.seq | type) == "number" and (.time | test("\\A[0-9TZ:.-]+\\z")))
      | "\(.seq) \(.time) \($id) \(.counts.files) \(.counts.bytes)"' "$tmp/$id.json" 2>"$tmp/why" >>"$tmp/snapshots"; then
    continue
  fi
  say "warning: ${file#"$repository"/} cannot be opened: $(head -n 1 "$tmp/why")"
  printf '%s\n' "${file##*/}" >>"$tmp/unopened"
done
sort -n -k 1,1 -k 2,2 -o "$tmp/snapshots" "$tmp/snapshots"
[ -s "$tmp/snapshots" ] || die 'no snapshot could be opened: is this the key of this repository?'
if [ -n "$list" ]; then
  cat "$tmp/snapshots"
  [ ! -s "$tmp/unopened" ] || exit 3
  exit 0
fi
while read -r seq time id files bytes; do
  case $id in
    "$snapshot"*) ;;
    *) [ "$snapshot" = latest ] || continue ;;
  esac
  printf '%s\n' "$seq $time $id $files $bytes"
done <"$tmp/snapshots" >"$tmp/candidates"
[ -s "$tmp/candidates" ] || die "no snapshot begins with $snapshot (see --list)"
[ "$snapshot" = latest ] || [ "$(wc -l <"$tmp/candidates")" = 1 ] || die "several snapshots begin with $snapshot: give more digits"
tail -n 1 "$tmp/candidates" >"$tmp/chosen"
read -r seq time id files bytes <"$tmp/chosen"
record=$tmp/$id.json
# Names begin with the time; of one second, any may be the newer.
newer=0
if [ "$snapshot" = latest ]; then
  for file in "$repository"/snapshots/*-"$id".age; do own=${file##*/}; done
  own=${own%%-*}
  newer=$({ cat "$tmp/unopened" && printf '%s\n' "$own"; } | sort | sed -n "/^$own\$/,\$p" | sed 1d | wc -l)
  [ "$newer" = 0 ] || say "warning: $newer newer than the one that is taken could not be opened (see above); another backend may have them whole"
fi
[ "$(sha256sum <"$record")" = "$id  -" ] || die "snapshot $id is another one than its name says; choose another with --snapshot (see --list)"
jq -e '.version == 1 and (.critical - ["special-files"]) == []' "$record" >/dev/null ||
  die "snapshot $id is of another format version than 1, or needs what this script lacks: use a newer one"
say "Snapshot number $seq of $time, id $id: $files files, $bytes bytes."

# ---- which pack holds which chunk: lines of chunk, pack, length ----

: >"$tmp/index"
for file in "$repository"/index/*.age; do
  if age --decrypt -i "$identity" -- "$file" 2>"$tmp/why" >"$tmp/index.zst" &&
    zstd -dcq "$tmp/index.zst" 2>"$tmp/why" >"$tmp/index.jsonl" &&
    jq -r 'def id: type == "string" and test("\\A[0-9a-f]{64}\\z");
      select(.pack | id) | .pack as $pack | .chunks[] | select((.[0] | id) and (.[3] | type) == "number") | "\(.[0]) \($pack) \(.[3])"' \
      "$tmp/index.jsonl" 2>"$tmp/why" >>"$tmp/index"; then
    continue
  fi
  say "warning: ${file#"$repository"/} cannot be opened: $(head -n 1 "$tmp/why")"
done
sort -u -o "$tmp/index" "$tmp/index"
cut -d ' ' -f 2 "$tmp/index" | sort -u >"$tmp/packs.known"
: >"$tmp/packs.done"
mkdir "$tmp/chunks"

# Decrypts the pack $1 and unpacks it into $tmp/chunks. Of a damaged one, what comes before the damage is had.
unpack() {
  printf '%s\n' "$1" >>"$tmp/packs.done"
  file=$repository/packs/$(printf %.2s "$1")/$1.tar.zst.age
  if ! [ -f "$file" ]; then
    say "warning: pack $1 is missing"
    return
  fi
  age --decrypt -i "$identity" -- "$file" 2>"$tmp/why" >"$tmp/pack.zst" || say "warning: pack $1 is damaged: $(head -n 1 "$tmp/why")"
  zstd -dcq "$tmp/pack.zst" 2>/dev/null | tar -xf - -C "$tmp/chunks" --no-same-owner 2>/dev/null || :
}

# Unpacks what the chunk ids in the file $1 need; the file $1.lost then holds those that could not be had.
fetch() {
  sort -u -o "$1" "$1"
  join "$1" "$tmp/index" >"$tmp/wanted"
  cut -d ' ' -f 1 "$tmp/wanted" | sort -u | comm -23 "$1" - >"$tmp/unknown"
  cut -d ' ' -f 2 "$tmp/wanted" | sort -u >"$tmp/packs"
  if [ -s "$tmp/unknown" ]; then
    say 'warning: chunks are in no index; all packs that no index names are searched for them'
    for file in "$repository"/packs/??/*.tar.zst.age; do
      file=${file##*/}
      printf '%s\n' "${file%.tar.zst.age}"
    done | sort -u | comm -23 - "$tmp/packs.known" >>"$tmp/packs"
  fi
  sort -u "$tmp/packs" | comm -23 - "$tmp/packs.done" >"$tmp/packs.todo"
  number=0
  while read -r pack; do
    number=$((number + 1))
    say "unpacking $number of $(wc -l <"$tmp/packs.todo")"
    unpack "$pack"
  done <"$tmp/packs.todo"
  sort -u -o "$tmp/packs.done" "$tmp/packs.done"
  # A chunk is right with the length that an index gives it; one that no index names, when it is there at all.
  (cd "$tmp/chunks" && du -ab) | head -n -1 >"$tmp/found" # the last line is the folder's own
  cut -f 2 "$tmp/found" | cut -c 3- | paste -d ' ' - "$tmp/found" | cut -f 1 | sort >"$tmp/lengths"
  cut -d ' ' -f 1,3 "$tmp/wanted" | sort -u | comm -12 - "$tmp/lengths" | cut -d ' ' -f 1 >"$tmp/right"
  join "$tmp/unknown" "$tmp/lengths" | cut -d ' ' -f 1 >>"$tmp/right"
  sort -u "$tmp/right" | comm -23 "$1" - >"$1.lost"
}

# ---- chunk ids: HMAC-SHA-256 (RFC 2104) with nothing but sha256sum; the key stays in files and in this shell ----

# Prints the key $1 (64 hexadecimal digits), filled up to a block of 64 bytes, each byte XORed with $2.
pad() {
  rest=$1$(printf %064d 0)
  while [ -n "$rest" ]; do
    printf '%b' "\\0$(printf %o $((0x$(printf %.2s "$rest") ^ $2)))"
    rest=${rest#??}
  done
}

makePads() {
  for file in "$repository"/keys/*.age; do
    age --decrypt -i "$identity" -- "$file" 2>"$tmp/why" >"$tmp/secrets" || continue
    [ "$(jq -r .repository "$tmp/secrets")" = "$(jq -r .repository "$record")" ] || continue
    key=$(jq -r '.chunkIdKey | select(test("\\A[0-9a-f]{64}\\z"))' "$tmp/secrets")
    pad "$key" 0x36 >"$tmp/inner"
    pad "$key" 0x5c >"$tmp/outer"
    return
  done
  die 'the key of the chunk ids could not be had; without --check-ids it is not needed'
}

# Adds to $1.lost the chunks of the file $1 that do not have the content that their ids promise.
compareIds() {
  [ -n "$checkIds" ] || return 0
  [ -f "$tmp/outer" ] || makePads
  comm -23 "$1" "$1.lost" >"$tmp/present"
  say "comparing $(wc -l <"$tmp/present") chunks with their ids"
  while read -r chunk; do
    sum=$(cat "$tmp/inner" "$tmp/chunks/$chunk" | sha256sum | tr a-f A-F)
    sum=$({ cat "$tmp/outer" && printf %.64s "$sum" | basenc --base16 -d; } | sha256sum)
    if [ "$sum" != "$chunk  -" ]; then
      say "warning: chunk $chunk does not have the content that its id promises"
      printf '%s\n' "$chunk" >>"$1.lost"
    fi
  done <"$tmp/present"
  sort -u -o "$1.lost" "$1.lost"
}

# ---- the manifest ----

# Puts into the file $tmp/$1 the manifest that the member $1 of the record names.
readManifest() {
  jq -r --arg member "$1" '.[$member].chunks[] | select(test("\\A[0-9a-f]{64}\\z"))' "$record" >"$tmp/order"
  cp "$tmp/order" "$tmp/$1.ids"
  fetch "$tmp/$1.ids"
  compareIds "$tmp/$1.ids"
  [ ! -s "$tmp/$1.ids.lost" ] || die "the $1 of this snapshot is damaged or lost; choose another with --snapshot (see --list)"
  while read -r chunk; do cat "$tmp/chunks/$chunk"; done <"$tmp/order" >"$tmp/$1"
  [ "$(wc -c <"$tmp/$1") $(wc -l <"$tmp/$1")" = "$(jq -r --arg member "$1" '.[$member] | "\(.bytes) \(.entries)"' "$record")" ] ||
    die "the $1 of this snapshot has not the length that the snapshot says"
}
readManifest manifest

# Checks each entry and gives its path and target the form of a word of a shell script. Nothing is taken on trust: paths stay inside
# the target, each in a folder of the manifest, and all that goes into the script is a number or quoted.
# shellcheck disable=SC2016 # the dollars are jq's, and those of the script it prints
entries='
  def wrong($what): error("the manifest holds an entry that cannot be right: \($what)");
  def whole: type == "number" and . >= 0 and . == floor;
  def id: type == "string" and test("\\A[0-9a-f]{64}\\z");
  def unbase64: [explode[] | if . == 61 then empty elif . >= 97 then . - 71 elif . >= 65 then . - 65 elif . >= 48 then . + 4 elif . == 43 then 62 else 63 end] as $s
    | [range($s | length * 6 / 8 | floor) as $i | ($i * 8 / 6 | floor) as $at
      | ($s[$at] * 64 + $s[$at + 1]) / [16, 4, 1][$i % 3] | floor | . % 256];
  # A name as a string of the characters 0 to 255, one for each byte.
  def raw($name): if has($name) | not then .[$name + "Base64"] | unbase64 | implode
    else .[$name] | if utf8bytelength == length then . else @base64 | unbase64 | implode end end;
  def octal: "\\\(. / 64 | floor)\(. / 8 | floor | . % 8)\(. % 8)";
  # Bytes that are no text go through printf. A command substitution drops line feeds at its end, so they follow it.
  def word($name; $prefix): if has($name) then $prefix + .[$name] | @sh
    else ($prefix + raw($name)) as $raw | ($raw | sub("\n+\\z"; "")) as $body
      | "\"$(printf \u0027\($body | explode | map(octal) | add)\u0027)\"" + ($raw[$body | length:] | @sh) end;
  raw("path") as $path | ($path | split("/")) as $names
  | if $path | explode | any(. == 0) then wrong("a path with a NUL") else . end
  | if $path != "" and ($names | any(. == "" or . == "." or . == "..")) then wrong("the path \($path | tojson)") else . end
  | if (.mode | test("\\A[0-7]{4}\\z")) and (.mtime | test("\\A-?[0-9]+[.][0-9]{9}\\z")) and (.uid | whole) and (.gid | whole)
    then . else wrong("mode, time or owner of \($path | tojson)") end
  | if if .type == "file" then (.size | whole) and (.chunks | all(id)) elif .type == "symlink"
      then raw("target") | . != "" and (explode | all(. != 0)) elif .type == "device"
      then (.device | (.kind == "block" or .kind == "character") and (.major | whole) and (.minor | whole))
      else .type == "folder" or .type == "fifo" end
    then . else wrong("type, size, chunks, target or numbers of \($path | tojson)") end
  | {type, word: word("path"; "./"), mode, mtime, owner: "\(.uid):\(.gid)", mine: (.uid == $uid), key: ($path | tojson),
      parent: (if $path == "" then null else $names[:-1] | join("/") | tojson end), shown: (.path // $path | tojson)}
    + if .type == "file" then {size, chunks} elif .type == "symlink" then {target: word("target"; "")}
      elif .type == "device" then {node: "\(.device.kind[:1]) \(.device.major) \(.device.minor)"} else {} end'
jq -c --argjson uid "$(id -u)" "$entries" "$tmp/manifest" >"$tmp/entries" || die 'nothing was written; choose another snapshot with --snapshot'
jq -ne 'input | .type == "folder" and .parent == null' "$tmp/entries" >/dev/null || die 'the manifest does not begin with its root; nothing was written'
secrets=$(jq -r '.secrets.files // 0 | select(type == "number" and . >= 0 and . == floor)' "$record")
if [ -n "$withSecrets" ] && [ "${secrets:=0}" != 0 ]; then
  readManifest secrets
  jq -c --argjson uid "$(id -u)" "$entries" "$tmp/secrets" >"$tmp/more" || die 'nothing was written; without --with-secrets the rest can be restored'
  # The folders that lead to secrets are in both manifests.
  jq -r 'select(.type == "folder").key' "$tmp/entries" >"$tmp/known"
  jq -nc --rawfile known "$tmp/known" '([$known | split("\n")[] | {(.): true}] | add) as $known
    | inputs | select(.type != "folder" or ($known[.key] | not))' "$tmp/more" >>"$tmp/entries"
  files=$((files + secrets))
fi
jq -r 'select(.type == "folder").key' "$tmp/entries" | sort >"$tmp/folders"
jq -r '.parent | strings' "$tmp/entries" | sort -u | comm -23 - "$tmp/folders" >"$tmp/orphans"
jq -r .key "$tmp/entries" | sort | uniq -d >"$tmp/doubles"
[ ! -s "$tmp/orphans" ] || die "the manifest has entries below $(head -n 1 "$tmp/orphans"), which is no folder; nothing was written"
[ ! -s "$tmp/doubles" ] || die "the manifest has $(head -n 1 "$tmp/doubles") more than once; nothing was written"

jq -r '.chunks[]?' "$tmp/entries" >"$tmp/data.ids"
fetch "$tmp/data.ids"
compareIds "$tmp/data.ids"

# ---- the tree ----

# Prints the script that writes it. Folders, contents, links (before that there is none that a write could follow), owners, modes, times;
# folders get their times after all that they hold was made, and their modes last, the deepest first.
# shellcheck disable=SC2016
plan='
  def groups: range(0; length; 200) as $i | .[$i:$i + 200];
  def words: map(.word) | join(" ");
  def each($command): groups | "\($command) -- \(words) || bad=1";
  # What another owns who is not the owner now must not lend its rights.
  def allowed: if $root or .mine then .mode else (.mode[:1] | tonumber % 2 | tostring) + .mode[1:] end;
  ($lost | split("\n") | map(select(. != "") | {(.): true}) | add // {}) as $lost
  | [inputs | if .type == "file" then .lost = (.chunks | any($lost[.])) else . end] | .[0] as $top
  | map(select(.type == "folder"))[1:] as $folders
  | map(select(.type == "symlink")) as $links
  | map(select(.type == "file" and (.lost | not))) as $files
  | map(select(.type == "fifo")) as $fifos
  | map(select(.type == "device" and $root)) as $devices
  | ($fifos + $devices) as $specials
  | (.[] | select(.lost) | "lost \(.shown | @sh)"),
    ($folders | each("mkdir")),
    ($files[] | .word as $word | if .chunks == [] then ": >\(.word) || bad=1" else .chunks | range(0; length; 500) as $i
      | "cat \(.[$i:$i + 500] | map("\"$c\"/" + .) | join(" ")) >\(if $i == 0 then "" else ">" end)\($word) || bad=1" end),
    ($files | groups | "sizes \"\(map("\(.size) ") | add)\" \(words)"),
    ($fifos | each("mkfifo")),
    ($devices[] | "mknod -- \(.word) \(.node) || bad=1"),
    ($links[] | "ln -sT -- \(.target) \(.word) || bad=1"),
    (if $root then [$top] + $folders + $files + $specials + $links | group_by(.owner)[] | each("chown -h \(.[0].owner)") else empty end),
    ($files + $specials | map(.mode = allowed) | group_by(.mode)[] | each("chmod \(.[0].mode)")),
    ($files + $specials + $links + $folders | group_by(.mtime)[] | each("touch -h -d @\(.[0].mtime)")),
    ($folders | reverse | reduce .[] as $next ([]; if length > 0 and .[-1][0].mode == $next.mode then .[-1] += [$next] else . + [[$next]] end)
      | .[] | each("chmod \(.[0].mode)")),
    "rm -- ./.holdfast-restore-incomplete || bad=1",
    ([$top] | each("touch -d @\($top.mtime)"), each("chmod \($top.mode)"))'
root=false
[ "$(id -u)" != 0 ] || root=true
jq -nr --rawfile lost "$tmp/data.ids.lost" --argjson root "$root" "$plan" "$tmp/entries" >"$tmp/plan"

bad='' lost=0
lost() {
  say "lost: $1"
  lost=$((lost + 1))
  bad=1
}
# Compares the sizes of files with those in $1; only where they differ is each looked at.
sizes() {
  sizes=$1
  shift
  [ "$(stat -c %s -- "$@" 2>/dev/null | tr '\n' ' ')" != "$sizes" ] || return 0
  for file; do
    size=$(stat -c %s -- "$file") || size=none
    [ "$size" = "${sizes%% *}" ] || say "$(printf %s "$file" | tr -c '[:print:]' '?') has size $size, not ${sizes%% *}"
    sizes=${sizes#* }
  done
  bad=1
}
[ -d "$target" ] || mkdir -- "$target"
writing=1
cd -- "$target"
printf 'A restore into this folder has not ended: not everything is here.\n' >./.holdfast-restore-incomplete
say "writing to $target"
# shellcheck disable=SC2034 # for the plan
c=$tmp/chunks
set -C # nothing that is there already is replaced
# shellcheck source=/dev/null
. "$tmp/plan"
set +C
writing=''

say "Restored to $target: $((files - lost)) of $files files."
if [ "$root" = false ] && grep -q '"type":"device"' "$tmp/entries"; then
  say 'Not restored: devices, which only root can make.'
  bad=1
fi
# Names have no bare quotation mark in a manifest, so what is found is the member.
grep -Eq '"(hardlink|hardlinkBase64|holes)":' "$tmp/manifest" &&
  say 'Files that had several names, or holes, are all here: each name a file of its own, the holes filled with zeros.'
if grep -Eq '"(xattrs|flags)":[{[]' "$tmp/manifest"; then
  say 'Not restored: extended attributes, ACLs and flags. The manifest has them; holdfast itself puts them back.'
  bad=1
fi
if [ "$newer" != 0 ]; then
  say "NOT the newest snapshot: $newer newer could not be opened (the warnings above name them). What came after $time is not here; another backend may have it."
  bad=1
fi
if [ -z "$withSecrets" ] && [ "${secrets:-0}" != 0 ]; then
  say "Not restored: $secrets secret files, which the snapshot keeps apart (--with-secrets has them too)."
fi
say 'Checked: everything that was read decrypts; the snapshot has its id; manifest, chunks and files have their lengths.'
if [ -n "$checkIds" ]; then
  say 'Checked: every chunk has the content that its id promises.'
else
  say 'Not checked: whether every chunk has the content that its id promises (--check-ids does).'
fi
say "Not checked: whether the agent signed the snapshot (docs/recovery.md says how to check it by hand)."
[ -z "$bad" ] || exit 3
