#!/usr/bin/env bash
# keep.sh SCRIPT ROOT FOLDER ARGUMENT...: does what standard input says, a line each (up, kill, restart), and answers with exit codes. When the input
# ends, that is when whoever started it is gone, however it went, it takes the server down and removes FOLDER.
trap '' INT TERM HUP PIPE
script=$(dirname "$0")/$1 root=$2 folder=$3
shift 3
while read -r action; do
  "$script" "$action" "$root" "$folder/state" "$@" </dev/null >>"$folder/log" 2>&1
  echo $? 2>/dev/null
done
"$script" down "$root" "$folder/state" >/dev/null 2>&1
rm -rf "$folder"
