#!/bin/bash
# node.sh start|stop I, node.sh exec I COMMAND… — node nI: own mount, pid, network, uts, ipc and cgroup namespaces.
#
# Within it only cgroup v2 is mounted, and it sees no cgroups but its own.
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
must_be_root
[ $# -ge 2 ] || fail "usage: node.sh start|stop|exec I [COMMAND…]"

I=$2
STATE=$RUN/n$I
PID=$STATE/pid

start() {
  local cgroup outer inner
  mkdir -p "$STATE"/{root,var,log}
  cgroup=$(node_cgroup "$I")
  mkdir -p "$cgroup"
  # The subshell enters the node's cgroup first, so that the cgroup namespace has it for its root.
  (
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec setsid nsenter --net="/run/netns/$NODE_PREFIX$I" \
      unshare --mount --propagation private --pid --uts --ipc --cgroup --fork --kill-child \
      bash "$HERE/lib/node-init.sh" "$I" >"$STATE/log/init.log" 2>&1 </dev/null
  ) &
  outer=$!
  until_within 10 has_child "$outer" || fail "node n$I did not start, see $STATE/log/init.log"
  inner=$(children "$outer")
  remember "$PID" "$inner"
  echo "n$I: pid $inner"
}

children() { tr -d ' ' <"/proc/$1/task/$1/children"; }
has_child() { [ -n "$(children "$1" 2>/dev/null)" ]; }

cgroup_is_gone() {
  [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null
  [ ! -d "$1" ]
}

# Its pid namespace, and all that is in it, ends with its pid 1.
stop() {
  signal "$PID" KILL
  until_within 20 ended "$PID" || fail "node n$I does not end"
  until_within 20 cgroup_is_gone "$(node_cgroup "$I")" || fail "cgroups of node n$I are in use"
  rm -f "$PID"
}

case $1 in
start) start ;;
stop) stop ;;
exec)
  lives "$PID" || fail "node n$I is not up"
  read -r pid _ <"$PID"
  shift 2
  exec nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup -- \
    env PATH="$LAB/root/usr/bin:$LAB/root/usr/sbin:$LAB/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@"
  ;;
*) fail "usage: node.sh start|stop|exec I [COMMAND…]" ;;
esac
