#!/bin/bash
# network.sh up NODES | down — network namespaces of the lab and the wires between them; nothing in any other namespace.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

up() {
  local count=$1 i j node
  ip netns add "$CONTROL_NETNS"
  ip -n "$CONTROL_NETNS" link set lo up
  ip -n "$CONTROL_NETNS" link add br0 type bridge
  ip -n "$CONTROL_NETNS" addr add "$API_IP/24" dev br0
  ip -n "$CONTROL_NETNS" link set br0 up
  nsenter --net="/run/netns/$CONTROL_NETNS" sysctl -qw net.ipv4.ip_forward=1
  for i in $(seq "$count"); do
    node=$NODE_PREFIX$i
    ip netns add "$node"
    ip -n "$node" link set lo up
    # Both ends are made where they belong: the host's own namespace never has them.
    ip link add "node$i" netns "$CONTROL_NETNS" type veth peer name eth0 netns "$node"
    ip -n "$CONTROL_NETNS" link set "node$i" master br0 up
    ip -n "$node" addr add "$(node_ip "$i")/24" dev eth0
    ip -n "$node" link set eth0 up
    ip -n "$node" route add default via "$API_IP"
    nsenter --net="/run/netns/$node" sysctl -qw net.ipv4.ip_forward=1
    ip -n "$CONTROL_NETNS" route add "10.244.$i.0/24" via "$(node_ip "$i")"
    for j in $(seq "$count"); do
      [ "$i" = "$j" ] || ip -n "$node" route add "10.244.$j.0/24" via "$(node_ip "$j")"
    done
  done
}

down() {
  local file
  for file in "/run/netns/$CONTROL_NETNS" "/run/netns/$NODE_PREFIX"[0-9]*; do
    [ -e "$file" ] || continue
    ip netns del "${file##*/}"
  done
}

case ${1:-} in
up) up "$2" ;;
down) down ;;
*) fail "usage: network.sh up NODES | down" ;;
esac
