# shellcheck shell=bash
# Names, paths and small functions that the scripts of the lab share. Sourced, never run.
#
# Everything of the lab has a name of its own: state in $LAB, network namespaces and cgroups `callgate-lab-*`,
# etcd's data in $ETCD_DATA. Processes are ended by pid alone.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB=${CALLGATE_LAB:-$HOME/.cache/callgate-lab}
export HERE LAB

# What a run of the cluster leaves there goes with the next.
RUN=$LAB/run
PKI=$RUN/pki
# On a tmpfs: etcd syncs each write, and nothing of a lab has to survive the machine.
ETCD_DATA=/dev/shm/callgate-lab-etcd
# A network namespace for the control plane, which is the switch too, and one for each node.
CONTROL_NETNS=callgate-lab-cp
NODE_PREFIX=callgate-lab-n
# Nodes are 10.99.0.11, .12, …; the pods of node I are 10.244.I.0/24. All of it is seen in these namespaces alone.
API_IP=10.99.0.1
export RUN PKI ETCD_DATA CONTROL_NETNS NODE_PREFIX API_IP

fail() {
  echo "lab: $*" >&2
  exit 1
}

must_be_root() {
  [ "$(id -u)" = 0 ] || fail "needs root: it makes namespaces and cgroups"
}

# Runs the calling script again under the lab's lock, which no child inherits: two of them never work at once.
only_one() {
  [ -z "${CALLGATE_LAB_LOCKED:-}" ] || return 0
  mkdir -p "$LAB"
  CALLGATE_LAB_LOCKED=1 exec flock --close "$LAB/lock" "$0" "$@"
}

node_ip() { echo "10.99.0.1$1"; }

# The numbers of the nodes that the last up.sh made.
nodes() {
  local folder
  for folder in "$RUN"/n[0-9]*; do
    [ -d "$folder" ] && echo "${folder##*/n}"
  done
  return 0
}

# Where cgroup v2 is mounted, be it alone or beside v1, which the lab leaves alone.
node_cgroup() {
  local mount
  mount=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || fail "no cgroup v2 is mounted"
  echo "$mount/$NODE_PREFIX$1"
}

# Start time of a process, in clock ticks since boot: field 22 of stat, counted behind the name.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# remember FILE PID — by pid and start time: a pid alone may be another's by the time it is ended.
remember() { echo "$2 $(start_time "$2")" >"$1"; }

# lives FILE — whether the remembered process still runs.
lives() {
  local pid start
  read -r pid start 2>/dev/null <"$1" && [ -n "$start" ] && [ "$(start_time "$pid")" = "$start" ]
}

# signal FILE SIGNAL — to the remembered process, if it still runs.
signal() {
  local pid
  lives "$1" || return 0
  read -r pid _ <"$1"
  kill -s "$2" "$pid" 2>/dev/null || true
}

# until_within SECONDS COMMAND… — tries COMMAND each 100 ms; fails when it never worked.
until_within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

ended() { ! lives "$1"; }

# run_in_control NAME PROGRAM… — in the background, in the network of the control plane; its log and pid in $STATE.
run_in_control() {
  local name=$1
  shift
  setsid nsenter --net="/run/netns/$CONTROL_NETNS" "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  remember "$STATE/$name.pid" $!
}

# end_in_control NAME — what run_in_control started.
end_in_control() {
  local file=$STATE/$1.pid
  signal "$file" TERM
  until_within 5 ended "$file" || signal "$file" KILL
  until_within 5 ended "$file" || fail "$1 does not end ($(cat "$file"))"
  rm -f "$file"
}
