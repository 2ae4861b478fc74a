#!/usr/bin/env bash
# A second opinion on AWS KMS: the store, and a node with its commands, with the master key in moto, a KMS that others wrote.
# moto is installed into a folder of this user's cache; where that cannot be done, the test is skipped and says so.
# Usage: tests/system/kms_moto.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly moto="moto[server,kms]==5.2.5"
readonly venv="${XDG_CACHE_HOME:-$HOME/.cache}/worldcompute/moto-5.2.5"

skip() { echo "skipped: kms_moto: $1"; exit 0; }
fail() { echo "FAILED kms_moto: $1" >&2; tail -n 20 "$work/moto.log" >&2 || true; exit 1; }

command -v python3 >/dev/null || skip "python3 is not installed"
if [ ! -e "$venv/installed" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >/dev/null || skip "python3 makes no virtual environments (package python3-venv)"
    "$venv/bin/pip" install -q "$moto" >/dev/null || skip "the package $moto cannot be installed"
    touch "$venv/installed"
fi

work=$(mktemp -d)
server=
clean() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean EXIT

# The port is moto's choice: 0 asks the system for a free one, and the log tells which it was.
"$venv/bin/moto_server" -H 127.0.0.1 -p 0 >"$work/moto.log" 2>&1 &
server=$!
port=
for _ in $(seq 300); do
    port=$(sed -n 's|.*http://127\.0\.0\.1:\([0-9][0-9]*\).*|\1|p' "$work/moto.log" | head -n 1)
    [ -z "$port" ] || break
    kill -0 "$server" 2>/dev/null || fail "moto did not start"
    sleep 0.1
done
[ -n "$port" ] || fail "moto did not say where it listens"

KMS_ENDPOINT="http://127.0.0.1:$port" \
    cargo test --workspace --features blue-encrypted-store/aws --test suite -- --nocapture kms_endpoint >"$work/tests.log" 2>&1 \
    || { cat "$work/tests.log" >&2; fail "the tests against moto"; }
grep -q "^test result: ok. 3 passed" "$work/tests.log" || { cat "$work/tests.log" >&2; fail "not every test ran"; }

# Tests of the command line are built with the program, two folders up from them.
commands=$(cargo test --workspace --features blue-encrypted-store/aws --no-run --test key_release 2>&1 | tee -a "$work/tests.log" \
    | sed -n 's/.*Executable .*(\(.*\/key_release-[0-9a-f]*\))$/\1/p')
[ -n "$commands" ] || { cat "$work/tests.log" >&2; fail "the program was not built"; }
worldcompute=$(realpath "$(dirname "$commands")/../worldcompute")

# key: makes an HMAC key and says its ARN.
key() {
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "$venv/bin/python" - "$1" <<'PYTHON'
import sys, boto3
kms = boto3.client("kms", endpoint_url=sys.argv[1], region_name="us-east-1")
print(kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["Arn"])
PYTHON
}

export KMS_ENDPOINT="http://127.0.0.1:$port" BLUE_KEYS
BLUE_KEYS=kms:$(key "$KMS_ENDPOINT")
tests/system/node_store.sh "$worldcompute" "$work/home" || fail "a node with its key in moto"
[ ! -e "$work/home/keys/umk.key" ] || fail "a key was made in a file"
BLUE_KEYS=kms:$(key "$KMS_ENDPOINT")
! "$worldcompute" --home "$work/home" --json store status >"$work/other.json" 2>&1 || fail "another key opened the store"
grep -q keys_elsewhere "$work/other.json" || fail "another key: $(cat "$work/other.json")"
echo "kms_moto: 3 tests and a node passed against ${moto}"
