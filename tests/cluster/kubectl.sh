#!/bin/bash
# kubectl.sh … — the lab's kubectl as its administrator, in the only network namespace that reaches the API server.
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
[ -e "/run/netns/$CONTROL_NETNS" ] || fail "no lab is up: up.sh"
exec nsenter --net="/run/netns/$CONTROL_NETNS" "$LAB/bin/kubectl" --kubeconfig="$PKI/admin.kubeconfig" "$@"
