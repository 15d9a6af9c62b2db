#!/bin/bash
# dns.sh start | stop — the cluster's DNS: dnsmasq, told of every Service as it comes. Services that go are not forgotten.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

STATE=$RUN/control-plane
HOSTS=$STATE/hosts

# One file for each Service, which dnsmasq reads as it is written.
# shellcheck disable=SC2016 # expanded by the inner shell
FOLLOW='exec "$0" --kubeconfig="$1" get services --all-namespaces --watch --no-headers \
  --output=custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,ADDRESS:.spec.clusterIP > >(
    while read -r namespace name address; do
      [ "$address" = None ] || echo "$address $name.$namespace.svc.cluster.local" >"$2/$namespace.$name"
    done)'

answers() { lives "$STATE/dns.pid" && grep -q started "$STATE/dns.log"; }

start() {
  mkdir -p "$HOSTS"
  run_in_control dns dnsmasq --keep-in-foreground --log-facility=- --conf-file=/dev/null --user=root --pid-file= \
    --no-resolv --no-hosts --hostsdir="$HOSTS" --local=/cluster.local/ --listen-address="$API_IP" --bind-interfaces
  until_within 10 answers || fail "dnsmasq did not start, see $STATE/dns.log"
  run_in_control services bash -c "$FOLLOW" "$LAB/bin/kubectl" "$PKI/admin.kubeconfig" "$HOSTS"
  "$HERE/kubectl.sh" apply -f "$HERE/manifests/dns.yaml" >/dev/null
}

stop() {
  local name
  for name in services dns; do
    end_in_control "$name"
  done
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) fail "usage: dns.sh start | stop" ;;
esac
