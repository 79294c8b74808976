#!/usr/bin/env bash
# get-debs.sh SUITE FOLDER alone|missing PACKAGE...: unpacks Debian packages and what they need below FOLDER/root; nothing is installed on the system.
# `alone`: with all they need, the C library and its loader too, so that they run on another release. `missing`: with what this system lacks.
set -euo pipefail
suite=$1 folder=$(realpath -m "$2") how=$3
shift 3
mkdir -p "$folder"/lists/partial "$folder"/cache/archives/partial "$folder"/root
if [[ $how == alone ]]; then : >"$folder/status"; else cp /var/lib/dpkg/status "$folder/status"; fi
host=$(apt-get indextargets --format '$(REPO_URI)' 'Component: main' | head -1)
[[ $host ]] || { echo 'apt-get knows no archive' >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $host $suite main" >"$folder/sources.list"
# The lock of the package database is beside its status file.
apt=(apt-get -qq -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$folder/lists"
  -o "Dir::State::status=$folder/status" -o "Dir::Cache=$folder/cache" -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o APT::Sandbox::User=root)
"${apt[@]}" update >/dev/null
"${apt[@]}" install -y --download-only --no-install-recommends "$@" >/dev/null
cd "$folder/cache/archives"
for deb in *.deb; do
  case $deb in
    lib* | zlib1g_* | ceph-[bcmo]* | radosgw_* | openssh-server_*) dpkg -x "$deb" "$folder/root" ;;
  esac
done
rm -rf "$folder"/{cache,lists,status,lock,lock-frontend,sources.list}
