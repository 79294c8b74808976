#!/bin/sh
# What an operator has to start, restart and scale an agent: supervise.sh start|restart|scale FOLDER NODE
# `restarts` in the agent's folder tells when each restart began and ended, in milliseconds, and what process there was before and is now.
set -eu
action=$1 folder=$2 node=$3

# Into `now`, by nothing but the shell: thirty of these wait at once.
pid() {
  now=
  if [ -e "$folder/pid" ]; then read -r now <"$folder/pid" || true; fi
}
# A number may be another process by now.
is_ours() { [ -n "$1" ] && tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qxF "$folder"; }

start() {
  pid
  before=$now
  setsid "$node" --max-semi-space-size=1 --max-old-space-size=32 "$(dirname "$0")/agent-process.js" "$folder" \
    </dev/null >>"$folder/log" 2>&1 &
  while [ "$now" = "$before" ]; do
    sleep 0.05
    pid
  done
}

case $action in
  start) start ;;
  restart)
    began=$(date +%s%3N)
    pid
    old=$now
    echo "$began begun ${HOLDFAST_RULE:-} $old" >>"$folder/restarts"
    if is_ours "$old"; then kill -9 "$old" 2>/dev/null || true; fi
    start
    echo "$(date +%s%3N) done $old $now" >>"$folder/restarts"
    ;;
  scale)
    echo "${HOLDFAST_REPLICAS:-2}" >"$folder/replicas"
    echo "$(date +%s%3N) ${HOLDFAST_REPLICAS:-2}" >>"$folder/scalings"
    ;;
esac
