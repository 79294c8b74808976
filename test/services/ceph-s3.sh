#!/usr/bin/env bash
# ceph-s3.sh up|down|kill|restart ROOT STATE S3PORT MONPORT ACCESSKEY SECRET [SETTING]: Ceph with a RADOS gateway (S3) on loopback, about a second to start.
# One monitor, one OSD in memory, no manager, no cephx. `kill` and `restart` concern the gateway alone: what is stored stays.
# A second user, `guest`, has ACCESSKEY-guest and the same secret: what it may do, bucket policies say.
set -euo pipefail
action=$1 root=$2 state=$3 port=${4:-7480} mon=${5:-13300} access=${6:-} secret=${7:-} setting=${8:-}
if [[ $action == down ]]; then
  for p in rgw osd mon; do kill -9 "$(<"$state/$p.pid")" || :; done 2>/dev/null
  rm -rf "$state"
  exit
fi
if [[ $action == kill ]]; then
  kill -9 "$(<"$state/rgw.pid")"
  exit
fi
lib=$root/usr/lib/x86_64-linux-gnu
for loader in "$root"/{usr/,}lib64/ld-linux-x86-64.so.2; do [[ -e $loader ]] && break; done
run() { exec "$loader" --library-path "$lib:$root/lib/x86_64-linux-gnu:$lib/ceph" "$root/usr/bin/$1" "${@:2}"; }
export CEPH_CONF=$state/ceph.conf
if [[ $action == up ]]; then
  mkdir -p "$state"/{mon,osd,rgw}
  cat /proc/sys/kernel/random/uuid >"$state/fsid"
  # tcp_nodelay: each answer takes 40 ms without. ms_mon_client_mode: radosgw hangs without. cluster_addr: the OSD would listen everywhere. objecter_tick_interval: half the starts take 6 s.
  # rgw_*: hundreds of threads, and work for buckets that live longer than these.
  cat >"$CEPH_CONF" <<C
[global]
fsid = $(<"$state/fsid")
mon_host = v2:127.0.0.1:$mon/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
run_dir = $state
admin_socket =
log_file = $state/\$name.log
mon_cluster_log_file = $state/cluster.log
crash_dir = $state
plugin_dir = $lib/ceph
erasure_code_dir = $lib/ceph/erasure-code
osd_class_dir = $lib/rados-classes
osd_pool_default_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
objecter_tick_interval = 0.5
mon_data = $state/mon
mon_data_avail_crit = 1
osd_data = $state/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_data = $state/rgw
rgw_thread_pool_size = 32
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
$setting
C
  (run monmaptool --create --fsid "$(<"$state/fsid")" --addv a "[v2:127.0.0.1:$mon/0]" "$state/monmap") >/dev/null
  (run ceph-mon -i a --mkfs --monmap "$state/monmap")
  (run ceph-osd -i 0 --no-mon-config --mkfs --osd-uuid "$(<"$state/fsid")") >"$state/mkfs.out" 2>&1
  (run ceph-mon -i a -f) >"$state/mon.out" 2>&1 &
  echo $! >"$state/mon.pid"
  (run ceph-osd -i 0 -f) >"$state/osd.out" 2>&1 &
  echo $! >"$state/osd.pid"
  user() { (run radosgw-admin user create --uid="$1" --display-name="$1" --access-key="$2" --secret-key="$secret") >/dev/null 2>>"$state/user.err"; }
  user owner "$access"
  user guest "$access-guest"
fi
(run radosgw -n client.rgw -f) >"$state/rgw.out" 2>&1 &
echo $! >"$state/rgw.pid"
for _ in {1..400}; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && curl -fso /dev/null "http://127.0.0.1:$port/"; then exit 0; fi
  sleep .05
done
echo "radosgw did not answer, see $state/*.log" >&2
exit 1
