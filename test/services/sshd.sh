#!/usr/bin/env bash
# sshd.sh up|down ROOT STATE PORT: an OpenSSH server on loopback that speaks SFTP only, for a throw-away key, as nobody. STATE/data is what it serves.
set -euo pipefail
action=$1 root=$2 state=$3 port=${4:-2222}
if [[ $action == down ]]; then
  kill -9 "$(<"$state/sshd.pid")" 2>/dev/null || :
  pkill -9 -f "sshd.*$state" 2>/dev/null || :
  rm -rf "$state"
  exit
fi
if [[ $action == kill ]]; then
  pkill -9 -u nobody -f 'sshd: nobody' 2>/dev/null || :
  kill -9 "$(<"$state/sshd.pid")" 2>/dev/null || :
  exit
fi
if [[ $action == up ]]; then
  mkdir -p "$state/data"
  ssh-keygen -q -t ed25519 -N '' -f "$state/host"
  ssh-keygen -q -t ed25519 -N '' -f "$state/client"
  cp "$state/client.pub" "$state/authorized_keys"
  # UsePAM: the account counts as locked without.
  cat >"$state/sshd_config" <<C
ListenAddress 127.0.0.1
Port $port
HostKey $state/host
PidFile $state/sshd.pid
AuthorizedKeysFile $state/authorized_keys
StrictModes no
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
DisableForwarding yes
MaxStartups 100
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d $state/data
C
  chown -R nobody "$state"
  chmod 755 "$state"
fi
libs=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$libs setpriv --reuid=nobody --regid=nogroup --clear-groups "$root/usr/sbin/sshd" -f "$state/sshd_config" -E "$state/sshd.log"
for _ in {1..200}; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then exit 0; fi
  sleep .02
done
echo "sshd did not answer, see $state/sshd.log" >&2
exit 1
