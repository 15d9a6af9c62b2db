#!/bin/bash
# down.sh — ends what up.sh started, by pid, and removes its namespaces and cgroups. Fails if something is left.
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
must_be_root
only_one "$@"

# Each part is tried, also after one that failed.
failed=
for i in $(nodes); do
  "$HERE/node.sh" stop "$i" || failed=1
done
"$HERE/lib/dns.sh" stop || failed=1
"$HERE/lib/control-plane.sh" stop || failed=1
"$HERE/lib/network.sh" down || failed=1
[ -z "$failed" ] || fail "something is left, see above"
# Logs stay until the next up.
rm -rf "$PKI" "$RUN"/n*/{var,root}
