#!/usr/bin/env bash
# Two donors on one LAN, with no flag, no configuration and no internet: discovered within 2 s, a working cluster within 5 s.
# Usage: tests/system/lan.sh path/to/worldcompute
set -euo pipefail

skip() { echo "skipped: lan: $1"; exit 0; }
fail() { echo "FAILED lan: $1" >&2; for side in a b; do tail -n 20 "$homes/$side/log/daemon.log" >&2 || true; done; exit 1; }

program=$(realpath "$1")
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "the ip command is not installed (package iproute2)"
ip netns add wc-probe 2>/dev/null || skip "this kernel makes no network namespaces"
ip netns del wc-probe

homes=$(mktemp -d)
clean() {
    for side in a b; do ip netns pids "wc-$side" 2>/dev/null | xargs -r kill 2>/dev/null || true; done
    wait
    for side in a b; do ip netns del "wc-$side" 2>/dev/null || true; done
    rm -rf "$homes"
}
trap clean EXIT

ip netns add wc-a
ip netns add wc-b
ip link add wc-veth-a netns wc-a type veth peer name wc-veth-b netns wc-b
for side in a b; do
    number=$([ $side = a ] && echo 1 || echo 2)
    ip -n "wc-$side" addr add "10.77.0.$number/24" dev "wc-veth-$side"
    ip -n "wc-$side" link set lo up
    ip -n "wc-$side" link set "wc-veth-$side" up
    ip -n "wc-$side" route add 224.0.0.0/4 dev "wc-veth-$side"
done

inside() { local side=$1; shift; WORLDCOMPUTE_HOME="$homes/$side" ip netns exec "wc-$side" "$program" "$@"; }
now_ms() { date +%s%3N; }

for side in a b; do
    mkfifo "$homes/ready-$side"
    inside "$side" donor join --json >"$homes/ready-$side" 2>/dev/null &
done
declare -A peer
for side in a b; do
    IFS= read -r line <"$homes/ready-$side" || fail "donor $side did not start"
    peer[$side]=$(sed 's/.*"peer_id":"\([^"]*\)".*/\1/' <<<"$line")
done
started=$(now_ms)

# Waits until $1 sees $2 as a connected donor, for at most 15 s; says when.
sees() {
    while :; do
        row=$(inside "$1" cluster peers --json | tr '{' '\n' | grep -A1 "${peer[$2]}" | tr -d '\n' || true)
        grep -q '"connected":true' <<<"$row" && grep -q '"slots":' <<<"$row" && break
        [ $(($(now_ms) - started)) -lt 15000 ] || fail "$1 does not see $2"
    done
    echo $(($(now_ms) - started))
}
a_ms=$(sees a b)
b_ms=$(sees b a)

cat >"$homes/hello.wat" <<'WAT'
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
WAT
said=$(inside a job run "$homes/hello.wat" </dev/null) || fail "the cluster runs no job"
[ "$said" = hello ] || fail "the job said '$said'"
grep -q 'discovered' "$homes/a/log/daemon.log" "$homes/b/log/daemon.log" || fail "no discovery was logged"
echo "ok lan: a sees b after $a_ms ms, b sees a after $b_ms ms; a job ran"
