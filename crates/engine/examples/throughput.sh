#!/bin/sh
# Two namespaces joined by a veth pair, the engine at both ends with static keys, iperf3 through it.
#
#   netns A: 192.0.2.1 --veth-- 192.0.2.2 :netns B        underlay
#   tun 10.99.0.1 ------------- 10.99.0.2                 tunnel
#
#   throughput.sh BINARY [SECONDS] [FLAG...]        needs root, iproute2, ethtool, iperf3
# GSO=1: super-packets cross the wire whole. IPERF: more options of the iperf3 client.
# Otherwise segmentation offload of the veth is off: packets are cut to the MTU before the wire, as with a plain network card.
set -eu
binary=$1; seconds=${2:-5}; shift; [ $# -gt 0 ] && shift
a=engine-a-$$; b=engine-b-$$
pids=
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    ip netns del $a 2>/dev/null || true; ip netns del $b 2>/dev/null || true
}
trap cleanup EXIT INT TERM
ip netns add $a; ip netns add $b
ip link add v0 netns $a type veth peer name v1 netns $b
for side in "$a v0 192.0.2.1" "$b v1 192.0.2.2"; do
    set -- $side "$@"; ns=$1; dev=$2; addr=$3; shift 3
    ip -n "$ns" addr add "$addr/24" dev "$dev"; ip -n "$ns" link set "$dev" up; ip -n "$ns" link set lo up
    [ -n "${GSO:-}" ] || ip netns exec "$ns" ethtool -K "$dev" tso off tx-udp-segmentation off gro on >/dev/null
done
ip netns exec $a "$binary" a etun 192.0.2.1:4500 192.0.2.2:4500 "$@" > /tmp/$a.log & pids="$pids $!"; pa=$!
sleep 0.3
ip netns exec $b "$binary" b etun 192.0.2.2:4500 192.0.2.1:4500 "$@" > /tmp/$b.log & pids="$pids $!"; pb=$!
sleep 0.5
ip -n $a addr add 10.99.0.1/24 dev etun; ip -n $a link set etun up
ip -n $b addr add 10.99.0.2/24 dev etun; ip -n $b link set etun up
ip netns exec $a iperf3 -s -1 >/dev/null & pids="$pids $!"
sleep 0.3
cpu() { awk '{s+=$1} END {printf "%.0f", s/1e6}' /proc/$pa/task/*/schedstat /proc/$pb/task/*/schedstat; }
before=$(cpu)
ip netns exec $b iperf3 -c 10.99.0.1 -t "$seconds" ${IPERF:-} | grep -E 'sender|receiver'
echo "VPN CPU: $(( $(cpu) - before )) ms"
tail -1 /tmp/$b.log; rm -f /tmp/$a.log /tmp/$b.log
