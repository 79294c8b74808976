#!/usr/bin/env bash
# sshd.sh up|down|kill|restart ROOT STATE PORT [FLAG...]: an OpenSSH server on loopback that speaks SFTP only, for a throw-away key. STATE/data is what it
# serves. Where root starts it, it runs as nobody. FLAGs are for internal-sftp. ROOT is where the package was unpacked, / where it is installed.
set -euo pipefail
action=$1 root=${2%/} state=$3 port=${4:-2222}
flags=("${@:5}")
# Of a process and all below it. (Each session is a process group of its own.)
tree() {
  echo "$1"
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do tree "$child"; done
}
stop() {
  local pid
  pid=$(cat "$state/pid" 2>/dev/null) || return 0
  # shellcheck disable=SC2046
  kill -9 $(tree "$pid") 2>/dev/null || :
  rm -f "$state/pid"
}
if [[ $action == down ]]; then
  stop
  # Where a test mounted a small disk and was killed.
  umount -l "$state"/data/* 2>/dev/null || :
  rm -rf "$state"
  exit
fi
if [[ $action == kill ]]; then
  stop
  exit
fi
if [[ $action == up ]]; then
  mkdir -p "$state"/{data,bin,lib}
  # Copied: nobody may not look below the home folder of root.
  cp "$root/usr/sbin/sshd" "$state/bin/"
  if [[ $root ]]; then find "$root" -path '*/x86_64-linux-gnu/*.so*' -exec cp -P {} "$state/lib/" ';'; fi
  ssh-keygen -q -t ed25519 -N '' -f "$state/host"
  ssh-keygen -q -t ed25519 -N '' -f "$state/client"
  cp "$state/client.pub" "$state/authorized_keys"
  # UsePAM: the account counts as locked without.
  cat >"$state/sshd_config" <<C
ListenAddress 127.0.0.1
Port $port
HostKey $state/host
PidFile none
AuthorizedKeysFile $state/authorized_keys
StrictModes no
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
DisableForwarding yes
MaxStartups 100
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d $state/data ${flags[*]}
C
  # From 9.8 on the server is several programs.
  for program in session auth; do
    if [[ -e $root/usr/lib/openssh/sshd-$program ]]; then
      cp "$root/usr/lib/openssh/sshd-$program" "$state/bin/"
      echo "Sshd${program^}Path $state/bin/sshd-$program" >>"$state/sshd_config"
    fi
  done
  chmod 755 "$state"
  if [[ $(id -u) == 0 ]]; then chown -R nobody "$state"; fi
fi
as=() once=(-r)
# -r: not loaded anew for each connection, of which that is half the cost. What is several programs cannot but do so.
if [[ -e $root/usr/lib/openssh/sshd-session ]]; then once=(); fi
if [[ $(id -u) == 0 ]]; then as=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
LD_LIBRARY_PATH=$state/lib "${as[@]}" "$state/bin/sshd" -D "${once[@]}" -f "$state/sshd_config" -E "$state/sshd.log" </dev/null >/dev/null 2>&1 &
echo $! >"$state/pid"
for _ in {1..200}; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then exit 0; fi
  sleep .02
done
echo "sshd did not answer, see $state/sshd.log" >&2
exit 1
