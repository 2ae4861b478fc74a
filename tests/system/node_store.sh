#!/usr/bin/env bash
# A node and its commands on the store, and with the key, that the environment names: what an operator does in the first
# days. The other scripts say which.
# Usage: tests/system/node_store.sh path/to/worldcompute path/to/home
set -euo pipefail

readonly program=$1 home=$2
readonly hello=$(dirname "$0")/../../examples/hello/hello.wat

fail() { echo "FAILED node_store: $1" >&2; exit 1; }
said() { "$program" --home "$home" --json "$@" </dev/null; }

# says <what> <command>..: it ends well, and its JSON has that.
says() {
    local wanted=$1 answer
    shift
    answer=$(said "$@") || fail "$*: exit status $?: $answer"
    grep -qF "$wanted" <<<"$answer" || fail "$*: no $wanted in $answer"
}

hello() {
    local answer
    answer=$("$program" --home "$home" job run "$hello" </dev/null) || fail "job run"
    [[ $answer = hello ]] || fail "the job said '$answer'"
}

sound() {
    says '"ok":true' store verify
    says '"ok":true' store verify-chain
}

# A daemon lives until its standard input ends.
daemon() {
    local ready
    coproc node { "$program" --home "$home" --json donor join --no-mdns --port 0 --end-with-stdin 2>/dev/null; }
    local pid=$node_PID
    IFS= read -r ready <&"${node[0]}" || fail "the daemon did not start"
    grep -qF '"event":"ready"' <<<"$ready" || fail "the daemon said $ready"
    says '"state":"in_use"' store status
    exec {node[1]}>&-
    wait "$pid" || fail "the daemon did not end in order"
}

says '"state":"absent"' store status
says '"created":true' store setup-tables
says '"created":false' store setup-tables
daemon
hello
says '"state":"ready"' store status
sound
partition=$(said store verify --list | grep -o '"job#[^"]*"' | head -n 1 | tr -d '"')
says "$partition" store rotate "$partition"
says '"epoch":2' store rotate
says '"wrapped_anew"' store rotate --retire
sound
bundle=$(mktemp -u)
says "$partition" store export "$partition" --output "$bundle"
says '"written":false' store import "$bundle"
certificate=$(mktemp)
said store erase "$partition" --yes >"$certificate" || fail "store erase: $(cat "$certificate")"
says '"ok":true' store check-certificate "$certificate"
! said store import "$bundle" 2>/dev/null || fail "an erased partition came back"
says '"operation":"Erase"' store events
rm -f "$bundle" "$certificate"
sound
hello
echo "node_store: a node and its commands, $(said store status | grep -o '"backend":"[^"]*"\|"keys":"[^"]*"' | tr '\n' ' ')"
