#!/bin/bash
# setup.sh — builds what a cluster needs, from Debian 12's packages alone: Kubernetes 1.20.2 from its source package, the
# rest from binary packages, which are unpacked in $LAB and not installed.
#
# A second call does only what is missing. 4 minutes on two idle cores, up to 14 on busy ones. Needs 3 GB while it works;
# 450 MB stay.
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
must_be_root
only_one "$@"

PROGRAMS="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl"
KUBERNETES=1.20.2
# The folder is removed at the end: sources, the compiler and its cache.
BUILD=$LAB/build

begun=$SECONDS
said() { printf '%4d s  %s\n' $((SECONDS - begun)) "$1"; }

must_be_bookworm() {
  local codename
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  [ "$codename" = bookworm ] || fail "this needs Debian 12, which has Kubernetes' source; elsewhere use a cluster by KUBECONFIG"
}

# What the scripts themselves call: package, and a program or file that shows that it is there.
install_tools() {
  local need missing=
  for need in curl:curl dnsmasq-base:dnsmasq gcc:gcc iproute2:ip iptables:iptables jq:jq libc6-dev:/usr/include/stdio.h mount:mount \
    openssl:openssl procps:sysctl python3:/usr/bin/python3 util-linux:nsenter \
    ca-certificates:/etc/ssl/certs/ca-certificates.crt; do
    case ${need#*:} in
    /*) [ -e "${need#*:}" ] || missing="$missing ${need%:*}" ;;
    *) command -v "${need#*:}" >/dev/null || missing="$missing ${need%:*}" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  apt update
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt install --yes --no-install-recommends $missing
  said "installed$missing"
}

# Quietly, unless it fails. As root: the sandbox's user could not write into a home folder.
apt() {
  apt-get --quiet --option APT::Sandbox::User=root --option DPkg::Lock::Timeout=120 "$@" >"$LAB/apt.log" 2>&1 ||
    { cat "$LAB/apt.log" >&2; fail "apt-get $1 failed"; }
}

# containerd, runc, etcd, the CNI plug-ins and busybox to $LAB/root; Go to $BUILD.
unpack_packages() {
  mkdir -p "$BUILD/packages" "$BUILD/go" "$LAB/root"
  cd "$BUILD/packages"
  apt update
  apt download containerd runc etcd-server etcd-client containernetworking-plugins busybox-static \
    golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
  local package
  for package in *.deb; do
    case $package in
    golang-*) dpkg -x "$package" "$BUILD/go" ;;
    *) dpkg -x "$package" "$LAB/root" ;;
    esac
  done
  said "packages"
}

# The source package, by package lists of our own: the system's need no deb-src line.
unpack_source() {
  local sources=/etc/apt/sources.list.d/debian.sources own=$BUILD/deb-src
  mkdir -p "$BUILD/lists/partial" "$BUILD/source"
  cd "$BUILD/source"
  if [ -f "$sources" ]; then
    sed 's/^Types:.*/Types: deb-src/' "$sources" >"$own.sources"
    own=$own.sources
  else
    sed 's/^deb /deb-src /' /etc/apt/sources.list >"$own.list"
    own=$own.list
  fi
  local lists=(--option "Dir::Etc::SourceList=$own" --option Dir::Etc::SourceParts=/dev/null
    --option "Dir::State::Lists=$BUILD/lists" --option Dir::Cache::pkgcache= --option Dir::Cache::srcpkgcache=)
  apt update "${lists[@]}"
  apt source --download-only "${lists[@]}" kubernetes
  tar -xzf kubernetes_*"really$KUBERNETES.orig.tar.gz"
  # The reflect2 in it crashes with Go 1.18 and later: Debian's package of a newer one in its place.
  local vendored=$BUILD/source/kubernetes-$KUBERNETES/vendor/github.com/modern-go/reflect2
  rm -f "$vendored"/*.go "$vendored"/*.s
  cp -L "$BUILD"/go/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$vendored/"
  said "source"
}

# The one file that is generated and not in the tree: what the API server says of its own types.
generate_openapi() {
  go build -o "$BUILD/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local folders
  folders=$(grep -rl --include='*.go' '+k8s:openapi-gen=' cmd pkg plugin test vendor/k8s.io/*/ |
    grep -v -e '^vendor/k8s.io/code-generator/' -e '^vendor/k8s.io/sample-apiserver/' \
      -e zz_generated -e /kube-openapi/ -e /gengo/ |
    xargs -n1 dirname | LC_ALL=C sort -u | sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
  "$BUILD/openapi-gen" --logtostderr -i "$folders" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    -r "$BUILD/violations.report" 2>"$BUILD/openapi.log" || { cat "$BUILD/openapi.log" >&2; fail "openapi-gen failed"; }
  said "openapi"
}

build_programs() {
  export GOROOT=$BUILD/go/usr/lib/go-1.19 GOPATH=$BUILD/gopath GOCACHE=$BUILD/gocache
  export GO111MODULE=off CGO_ENABLED=0 GOFLAGS='' GOPROXY=off PATH=$BUILD/go/usr/lib/go-1.19/bin:$PATH
  mkdir -p "$GOPATH/src/k8s.io" "$LAB/bin"
  ln -sfn "$BUILD/source/kubernetes-$KUBERNETES" "$GOPATH/src/k8s.io/kubernetes"
  cd "$GOPATH/src/k8s.io/kubernetes"
  generate_openapi
  local flags="-s -w" package program
  for package in component-base/version client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags="$flags -X $package.gitVersion=v$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=20"
    flags="$flags -X $package.gitTreeState=clean -X $package.buildDate=2021-01-13T13:20:00Z"
  done
  for program in $PROGRAMS; do
    [ ! -x "$LAB/bin/$program" ] || continue
    # Under another name until it is whole.
    go build -p 2 -tags 'providerless dockerless' -ldflags "$flags" -o "$LAB/bin/$program.new" "./cmd/$program"
    mv "$LAB/bin/$program.new" "$LAB/bin/$program"
    said "$program"
  done
}

# The sandbox's pause, and a busybox with tcpget.
build_images() {
  local work=$LAB/images/work architecture applet
  architecture=$(dpkg --print-architecture)
  rm -rf "$LAB/images"
  mkdir -p "$work/pause" "$work/busybox"/{bin,dev,etc,proc,root,sys,tmp}
  gcc -O2 -static -o "$work/pause/pause" "$HERE/images/pause.c"
  "$HERE/images/archive.py" "$work/pause" localhost/pause:1 "$architecture" "$LAB/images/pause.tar" /pause
  gcc -O2 -static -o "$work/busybox/bin/tcpget" "$HERE/images/tcpget.c"
  cp "$LAB/root/bin/busybox" "$work/busybox/bin/busybox"
  for applet in $("$work/busybox/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf /bin/busybox "$work/busybox/bin/$applet"
  done
  "$HERE/images/archive.py" "$work/busybox" localhost/busybox:1 "$architecture" "$LAB/images/busybox.new" sh
  rm -rf "$work"
  # Last, so that it tells that all is there.
  mv "$LAB/images/busybox.new" "$LAB/images/busybox.tar"
  said "images"
}

has_programs() {
  local program
  for program in $PROGRAMS; do
    [ -x "$LAB/bin/$program" ] || return 1
  done
}

mkdir -p "$LAB"
install_tools
if ! has_programs || [ ! -x "$LAB/root/usr/bin/containerd" ]; then
  must_be_bookworm
  rm -rf "$BUILD"
  unpack_packages
  unpack_source
  build_programs
fi
# Also when a source was changed since.
[ -z "$(find "$HERE/images" -newer "$LAB/images/busybox.tar" 2>&1)" ] || build_images
# The module cache is read-only in places.
[ ! -d "$BUILD" ] || { chmod -R u+w "$BUILD" && rm -rf "$BUILD"; }
said "the lab's programs are in $LAB"
