#!/bin/bash
# node-init.sh I — pid 1 of node I: its own file tree, then containerd, kubelet and kube-proxy.
#
# Called by node.sh in new mount, pid, uts, ipc and cgroup namespaces and in the node's network namespace.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

I=$1
NODE=n$I
STATE=$RUN/$NODE
ROOT=$STATE/root

# A tree in memory: the machine's programs read-only, state of its own, and no cgroup v1 anywhere.
make_root() {
  mount -t tmpfs tmpfs "$ROOT"
  cd "$ROOT"
  mkdir -p usr etc var run tmp proc sys dev opt/cni/bin root old
  mount --bind /usr usr
  mount -o remount,bind,ro usr
  local folder
  for folder in bin sbin lib lib64; do
    # Links into /usr where it is merged, folders where it is not.
    if [ -L "/$folder" ]; then
      cp -a "/$folder" "$folder"
    elif [ -d "/$folder" ]; then
      mkdir "$folder"
      mount --bind "/$folder" "$folder"
    fi
  done
  # The machine's own, so that archives and configurations can be handed over.
  mount --bind /tmp tmp
  mkdir -p ".$LAB" ".$HERE"
  mount --bind "$LAB" ".$LAB"
  mount --bind "$HERE" ".$HERE"
  for file in passwd group nsswitch.conf ssl ld.so.cache ld.so.conf ld.so.conf.d alternatives protocols services; do
    [ ! -e "/etc/$file" ] || cp -a "/etc/$file" etc/
  done
  printf '127.0.0.1 localhost\n%s %s\n' "$(node_ip "$I")" "$NODE" >etc/hosts
  : >etc/resolv.conf
  echo "$NODE" >etc/hostname
  echo -n "$NODE" | md5sum | cut -c1-32 >etc/machine-id
  mkdir -p "$STATE"/var/lib/{kubelet,containerd,cni} "$STATE"/var/log/{pods,containers}
  mount --bind "$STATE/var" var
  ln -sfn /run var/run
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t bpf bpf sys/fs/bpf
  mount -t tracefs tracefs sys/kernel/tracing 2>/dev/null || true
  mount -t debugfs debugfs sys/kernel/debug 2>/dev/null || true
  mount --rbind /dev dev
  mount --bind "$LAB/root/usr/lib/cni" opt/cni/bin
  private_sysctls
  pivot_root . old
  cd /
  umount -l /old
  rmdir /old
  mount --make-rshared /
}

# kubelet writes these of the whole machine: it gets files of its own in their place.
private_sysctls() {
  local setting file
  mkdir -p run/sysctls
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=run/sysctls/$(echo "${setting%=*}" | tr / _)
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "proc/sys/${setting%=*}"
  done
}

write_configurations() {
  mkdir -p /etc/containerd /etc/cni/net.d /etc/kubernetes
  cat >/etc/containerd/config.toml <<END
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "$HERE/lib/runc-without-limits"
      SystemdCgroup = false
END
  cat >/etc/cni/net.d/10-bridge.conflist <<END
{"cniVersion": "0.3.1", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$I.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  cat >/etc/kubernetes/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
failSwapOn: false
oomScoreAdj: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/$NODE-serving.crt
tlsPrivateKeyFile: $PKI/$NODE-serving.key
resolvConf: /etc/resolv.conf
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
evictionHard: {nodefs.available: "1Gi", imagefs.available: "1Gi", memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
volumePluginDir: /var/lib/kubelet/volumeplugins
END
}

containerd_answers() { [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; }

start_containerd() {
  containerd >"$STATE/log/containerd.log" 2>&1 &
  until_within 60 containerd_answers || fail "containerd does not answer"
  local archive
  for archive in "$LAB"/images/*.tar; do
    ctr -n k8s.io images import "$archive"
  done
}

# kubelet finds the pods' cgroups that it must clean up by the list of controllers, which is empty where v1 has them all.
# In a mount namespace of its own it reads one name for which it sets nothing; runc must not see that (it resolves with
# RESOLVE_NO_XDEV).
start_kubelet() {
  echo freezer >/run/controllers
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --propagation unchanged bash -c '
    mount --make-private /sys/fs/cgroup
    mount --bind /run/controllers /sys/fs/cgroup/cgroup.controllers
    exec "$@"' - \
    kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig="$PKI/$NODE.kubeconfig" \
    --hostname-override="$NODE" --node-ip="$(node_ip "$I")" \
    --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock --v=2 \
    >"$STATE/log/kubelet.log" 2>&1 &
}

start_proxy() {
  kube-proxy --kubeconfig="$PKI/proxy.kubeconfig" --hostname-override="$NODE" --cluster-cidr=10.244.0.0/16 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
    --proxy-mode=iptables >"$STATE/log/proxy.log" 2>&1 &
}

hostname "$NODE"
make_root
export PATH=$LAB/root/usr/bin:$LAB/root/usr/sbin:$LAB/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
write_configurations
start_containerd
start_kubelet
start_proxy
wait
# A pid namespace ends with its pid 1: the logs of what died are read first.
exec sleep infinity
