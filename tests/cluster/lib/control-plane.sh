#!/bin/bash
# control-plane.sh start | stop — etcd, API server, controller manager and scheduler, in a network namespace of their own.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

STATE=$RUN/control-plane
PATH=$LAB/root/usr/bin:$LAB/bin:$PATH

api_is_ready() {
  lives "$STATE/apiserver.pid" || fail "the API server ended, see $STATE/apiserver.log"
  nsenter --net="/run/netns/$CONTROL_NETNS" curl -sf --max-time 5 \
    --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "https://$API_IP:6443/readyz" |
    grep -q '^ok'
}

start() {
  mkdir -p "$STATE"
  # Its own file: it stood there for nobody if the machine went down with a lab up.
  rm -rf "$ETCD_DATA"
  local etcd=http://127.0.0.1
  run_in_control etcd etcd --data-dir "$ETCD_DATA" \
    --listen-client-urls "$etcd:2379" --advertise-client-urls "$etcd:2379" \
    --listen-peer-urls "$etcd:2380" --initial-advertise-peer-urls "$etcd:2380" \
    --initial-cluster "default=$etcd:2380"
  run_in_control apiserver kube-apiserver --etcd-servers="$etcd:2379" \
    --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$API_IP" \
    --service-cluster-ip-range=10.96.0.0/16 \
    --enable-aggregator-routing=true \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP
  until_within 120 api_is_ready || fail "the API server was not ready within 120 s, see $STATE/apiserver.log"
  controllers
}

controllers() {
  local config=$PKI/controller-manager.kubeconfig
  run_in_control controller-manager kube-controller-manager --kubeconfig="$config" \
    --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --use-service-account-credentials --flex-volume-plugin-dir="$RUN/flex" \
    --leader-elect=false --bind-address=127.0.0.1
  config=$PKI/scheduler.kubeconfig
  run_in_control scheduler kube-scheduler --kubeconfig="$config" \
    --authentication-kubeconfig="$config" --authorization-kubeconfig="$config" \
    --leader-elect=false --bind-address=127.0.0.1
}

stop() {
  local name
  for name in scheduler controller-manager apiserver etcd; do
    end_in_control "$name"
  done
  rm -rf "$ETCD_DATA"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) fail "usage: control-plane.sh start | stop" ;;
esac
