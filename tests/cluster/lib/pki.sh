#!/bin/bash
# pki.sh NODES — certificates and kubeconfigs of a cluster that lives for a day, in $PKI.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

count=$1
umask 077
mkdir -p "$PKI"
cd "$PKI"

authority() {
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -subj /CN=callgate-lab -days 30 -out ca.crt
  # Service account tokens: RSA, as every consumer of a cluster's JWKS takes it.
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
}

# certificate NAME SUBJECT EXTENSIONS
certificate() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
      -extfile <(printf '%b' "$3") 2>/dev/null
}

# client NAME SUBJECT — a certificate, and a kubeconfig that uses it.
client() {
  certificate "$1" "$2" 'extendedKeyUsage=clientAuth\n'
  cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: "https://$API_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: lab, context: {cluster: lab, user: user}}]
END
}

authority
names=IP:$API_IP,IP:127.0.0.1,IP:10.96.0.1,DNS:localhost
names=$names,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
names=$names,DNS:kubernetes.default.svc.cluster.local
certificate apiserver /CN=kube-apiserver "subjectAltName=$names\nextendedKeyUsage=serverAuth\n"
client apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
client admin /O=system:masters/CN=admin
client controller-manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
for i in $(seq "$count"); do
  client "n$i" "/O=system:nodes/CN=system:node:n$i"
  certificate "n$i-serving" "/O=system:nodes/CN=system:node:n$i" \
    "subjectAltName=DNS:n$i,IP:$(node_ip "$i")\nextendedKeyUsage=serverAuth\n"
done
