#!/usr/bin/env bash
# get-debs.sh SUITE FOLDER PACKAGE...: unpacks Debian packages and what they need below FOLDER/root; nothing is installed on the system.
set -euo pipefail
suite=$1 folder=$(realpath -m "$2")
shift 2
mkdir -p "$folder"/lists/partial "$folder"/cache/archives/partial "$folder"/root
: >"$folder/status"
host=$(apt-get indextargets --format '$(REPO_URI)' 'Component: main' | head -1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $host $suite main" >"$folder/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$folder/lists"
  -o "Dir::State::status=$folder/status" -o "Dir::Cache=$folder/cache")
"${apt[@]}" update
"${apt[@]}" install -y --download-only --no-install-recommends "$@" >/dev/null
cd "$folder/cache/archives"
for deb in *.deb; do
  case $deb in
    lib* | zlib1g_* | ceph-[bcmo]* | radosgw_* | openssh-server_* | openssh-sftp-server_*) dpkg -x "$deb" "$folder/root" ;;
  esac
done
rm -rf "$folder/cache" "$folder/lists"
