#!/bin/bash
# up.sh [NODES] — a cluster of so many nodes (default 1, at most 9) from what setup.sh built; down.sh undoes it.
#
# Where one is up already, says so and leaves it. What it started is taken down again when something fails.
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
must_be_root
only_one "$@"

count=${1:-1}
[[ $count =~ ^[1-9]$ ]] || fail "so many nodes cannot be: $count"

ready_nodes() { "$HERE/kubectl.sh" get nodes --no-headers 2>/dev/null | grep -c ' Ready ' || true; }
are_ready() { [ "$(ready_nodes)" = "$1" ]; }
# The API server calls a node ready for 40 s after its end.
all_live() {
  local file
  for file in "$RUN"/control-plane/*.pid "$RUN"/n*/pid; do
    lives "$file" || return 1
  done
}
said() { printf '%6d ms  %s\n' $(($(date +%s%3N) - begun)) "$1"; }

if [ -e "/run/netns/$CONTROL_NETNS" ]; then
  made=$(nodes | wc -l)
  { all_live && are_ready "$made"; } || fail "a lab is up, but not well, or another's: down.sh first"
  [ "$made" -ge "$count" ] || fail "a lab of $made nodes is up: down.sh first"
  echo "up already: $made nodes"
  exit
fi
[ -x "$LAB/bin/kubelet" ] || fail "nothing in $LAB: setup.sh first"

undo() {
  local code=$?
  [ "$code" = 0 ] && return
  echo "lab: up failed; the last lines of its logs:" >&2
  tail -n 5 "$RUN"/control-plane/*.log "$RUN"/n*/log/*.log >&2 2>/dev/null || true
  "$HERE/down.sh" || true
  exit "$code"
}
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

begun=$(date +%s%3N)
rm -rf "$RUN"
mkdir -p "$RUN"
"$HERE/lib/pki.sh" "$count"
"$HERE/lib/network.sh" up "$count"
said "certificates and network"
"$HERE/lib/control-plane.sh" start
said "API server ready, controllers started"
"$HERE/lib/dns.sh" start
said "DNS of the cluster"
for i in $(seq "$count"); do
  "$HERE/node.sh" start "$i"
done
until_within 120 are_ready "$count" || fail "$(ready_nodes) of $count nodes were ready within 120 s"
said "$count nodes ready"
