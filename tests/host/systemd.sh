#!/bin/bash
# systemd.sh start FOLDER | exec COMMAND… | stop — Debian's systemd as pid 1 of namespaces of its own, with the programs
# of FOLDER in /usr/local/bin. Nothing else of Callgate is there.
#
# What it touches: a network namespace, a cgroup and a folder, all called callgate-host. Its tree is in memory.
CALLGATE_LAB=/tmp/callgate-host
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib/common.sh"
must_be_root
# This script's own folder; common.sh's HERE is the cluster's.
SELF=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PID=$LAB/pid
ROOT=$LAB/root
NETNS=callgate-host

cgroup() { echo "$(dirname "$(node_cgroup 0)")/callgate-host"; }
children() { tr -d ' ' <"/proc/$1/task/$1/children"; }
has_child() { [ -n "$(children "$1" 2>/dev/null)" ]; }

start() {
  local outer cgroup
  [ ! -e "/run/netns/$NETNS" ] || fail "one is up already: systemd.sh stop"
  [ -x /lib/systemd/systemd ] || fail "there is no systemd here: apt-get install systemd"
  rm -rf "$LAB"
  mkdir -p "$ROOT"
  trap 'undo' EXIT
  ip netns add "$NETNS"
  ip -n "$NETNS" link set lo up
  cgroup=$(cgroup)
  mkdir -p "$cgroup"
  # Nothing is started in it before the exec: its first child is the one that is remembered.
  (
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec setsid nsenter --net="/run/netns/$NETNS" \
      unshare --mount --propagation private --pid --uts --ipc --cgroup --fork --kill-child \
      bash "$SELF/systemd.sh" init "$1" >"$LAB/log" 2>&1 </dev/null
  ) &
  outer=$!
  until_within 10 has_child "$outer" || fail "it did not start: $(cat "$LAB/log")"
  remember "$PID" "$(children "$outer")"
  until_within 60 is_running || fail "systemd is not up within 60 s: $(tail -n 5 "$LAB/log")"
  trap - EXIT
}

undo() {
  local code=$?
  stop || true
  exit "$code"
}

is_running() {
  lives "$PID" || fail "it ended: $(tail -n 5 "$LAB/log")"
  # Until pid 1 has its own tree, this asks nobody.
  inside systemctl is-system-running 2>/dev/null | grep -qx running
}

inside() {
  local pid
  read -r pid _ <"$PID"
  nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup -- \
    env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Pid 1: a tree of its own, the machine's programs read-only, then systemd.
init() {
  local programs=$1 file folder
  hostname callgate-host
  mount -t tmpfs tmpfs "$ROOT"
  cd "$ROOT"
  mkdir -p usr run tmp proc sys dev root old etc/systemd/system var/lib var/log var/tmp
  mount --bind /usr usr
  mount -o remount,bind,ro usr
  for folder in bin sbin lib lib64; do cp -a "/$folder" "$folder"; done
  mount -t tmpfs tmpfs usr/local/bin
  cp "$programs"/callgate{,-agent,-collector} usr/local/bin/
  for file in passwd group shadow gshadow nsswitch.conf ssl ld.so.cache ld.so.conf ld.so.conf.d alternatives login.defs; do
    [ ! -e "/etc/$file" ] || cp -a "/etc/$file" etc/
  done
  : >etc/machine-id
  : >etc/resolv.conf
  echo '127.0.0.1 localhost callgate-host web.test' >etc/hosts
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t bpf bpf sys/fs/bpf
  mount -t tracefs tracefs sys/kernel/tracing || true
  mount --rbind /dev dev
  mount -t tmpfs tmpfs tmp
  # Nothing of a machine's devices, consoles and network.
  ln -s /usr/lib/systemd/system/basic.target etc/systemd/system/default.target
  for file in systemd-udevd systemd-udev-trigger systemd-networkd systemd-resolved systemd-logind systemd-remount-fs; do
    ln -s /dev/null "etc/systemd/system/$file.service"
  done
  pivot_root . old
  cd /
  umount -l /old
  rmdir /old
  mount --make-rshared /
  container=callgate exec env -u CALLGATE_LAB /lib/systemd/systemd --system --log-target=console --show-status=false
}

cgroup_is_gone() {
  [ ! -d "$(cgroup)" ] || find "$(cgroup)" -depth -type d -exec rmdir {} \; 2>/dev/null
  [ ! -d "$(cgroup)" ]
}

stop() {
  signal "$PID" KILL
  until_within 20 ended "$PID" || fail "it does not end"
  until_within 20 cgroup_is_gone || fail "its cgroups are in use"
  [ ! -e "/run/netns/$NETNS" ] || ip netns del "$NETNS"
  rm -rf "$LAB"
}

case ${1:-} in
start) start "$2" ;;
init) init "$2" ;;
exec)
  lives "$PID" || fail "it is not up"
  shift
  inside "$@"
  ;;
stop) stop ;;
*) fail "usage: systemd.sh start FOLDER | exec COMMAND… | stop" ;;
esac
