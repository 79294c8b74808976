#!/bin/sh
# What an operator has to start, restart and scale an agent: supervise.sh start|restart|scale FOLDER NODE
# `restarts` in the agent's folder tells when each restart began and ended, in milliseconds, and what process there was before and is now.
set -eu
action=$1 folder=$2 node=$3

pid() { cat "$folder/pid" 2>/dev/null || true; }
# A number may be another process by now.
is_ours() { [ -n "$1" ] && tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qxF "$folder"; }

start() {
  before=$(pid)
  setsid "$node" --max-semi-space-size=1 --max-old-space-size=32 "$(dirname "$0")/agent-process.js" "$folder" \
    </dev/null >>"$folder/log" 2>&1 &
  while [ "$(pid)" = "$before" ]; do sleep 0.02; done
}

case $action in
  start) start ;;
  restart)
    began=$(date +%s%3N)
    echo "$began begun ${HOLDFAST_RULE:-} $(pid)" >>"$folder/restarts"
    old=$(pid)
    if is_ours "$old"; then kill -9 "$old" 2>/dev/null || true; fi
    start
    echo "$(date +%s%3N) done $old $(pid)" >>"$folder/restarts"
    ;;
  scale)
    echo "${HOLDFAST_REPLICAS:-2}" >"$folder/replicas"
    echo "$(date +%s%3N) ${HOLDFAST_REPLICAS:-2}" >>"$folder/scalings"
    ;;
esac
