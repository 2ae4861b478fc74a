#!/usr/bin/env bash
# The encrypted store, and a node with its commands, with the master key in a TPM 2.0: swtpm, an emulator, since nobody may extend the registers of the
# machine that this runs on. libtss2 and swtpm are installed from Debian where that is allowed; where it is not, the test
# is skipped and says so.
# Usage: tests/system/tpm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "skipped: tpm: $1"; exit 0; }
fail() { echo "FAILED tpm: $1" >&2; exit 1; }

libraries() { pkg-config --exists tss2-esys tss2-tctildr tss2-mu tss2-sys 2>/dev/null; }

tools() {
    local missing=()
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    libraries || missing+=(libtss2-dev)
    command -v swtpm >/dev/null || missing+=(swtpm)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
    libraries || skip "libtss2 is not found by pkg-config"
}

tools
# With the features of the whole workspace, so that nothing below the store is compiled a second time.
cargo clippy --workspace --features blue-encrypted-store/tpm2 --all-targets -- -D warnings
work=$(mktemp -d)
log=$work/tests.log
# Ends the emulator, and waits until it has let go of its state.
stop() {
    local pid
    [[ -e $work/pid ]] || return 0
    pid=$(cat "$work/pid")
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
trap 'stop; rm -rf "$work"' EXIT
cargo test --workspace --features blue-encrypted-store/tpm2 --lib -- --nocapture tpm:: 2>&1 | tee "$log" || fail "the tests with swtpm"
! grep -q 'skipped: ' "$log" || fail "swtpm is installed and does not run"
grep -Eq '^test result: ok\. [1-9]' "$log" || fail "no test ran"

# Tests of the command line are built with the program, two folders up from them.
commands=$(cargo test --workspace --features blue-encrypted-store/tpm2 --no-run --test key_release 2>&1 | tee -a "$log" \
    | sed -n 's/.*Executable .*(\(.*\/key_release-[0-9a-f]*\))$/\1/p')
[[ -n $commands ]] || { cat "$log" >&2; fail "the program was not built"; }
worldcompute=$(realpath "$(dirname "$commands")/../worldcompute")

# Switches the emulator on, at two ports in a row that nobody else has.
switch_on() {
    local attempt
    mkdir -p "$work/state"
    for attempt in $(seq 50); do
        port=$((20000 + RANDOM % 10000))
        swtpm socket --tpm2 --daemon --flags not-need-init,startup-clear --pid "file=$work/pid" --tpmstate "dir=$work/state" \
            --server "type=tcp,bindaddr=127.0.0.1,port=$port" --ctrl "type=tcp,bindaddr=127.0.0.1,port=$((port + 1))" \
            2>>"$log" && { export BLUE_TPM=swtpm:$port; return; }
    done
    fail "swtpm does not start"
}

# What an update of the firmware does: TPM2_PCR_Extend of PCR 0 with 32 zero bytes, under the empty password.
readonly zeros=$(printf '%064d' 0)
extend_pcr0() {
    local command=80020000004100000182000000000000000940000009000000000000000001000b$zeros
    exec {tpm}<>"/dev/tcp/127.0.0.1/$port"
    bytes "$command" >&"$tpm"
    head -c 10 <&"$tpm" | od -An -tx1 | tr -d ' \n' | grep -q '00000000$' || fail "PCR 0 was not extended"
    exec {tpm}>&-
}
bytes() { printf "$(sed 's/../\\x&/g' <<<"$1")"; }
extended() { bytes "$1$zeros" | sha256sum | cut -d' ' -f1; }

store() { "$worldcompute" --home "$work/home" --json store "$@" </dev/null; }
opens() { store status | grep -qF '"state":"ready"' || fail "$1"; }
refused() {
    ! store "${@:2}" >"$work/answer" 2>&1 || fail "${*:2} went well"
    grep -q "\"$1\"" "$work/answer" || fail "${*:2}: $(cat "$work/answer")"
}
value() { grep -o "\"$1\":\"[0-9a-f]*\"" <<<"$2" | head -n 1 | cut -d'"' -f4; }

export BLUE_KEYS=tpm2
switch_on
sealed=$(store seal --fresh "$work/safe/umk.key") || fail "a fresh key is not sealed"
tests/system/node_store.sh "$worldcompute" "$work/home"
[[ ! -e $work/home/keys/umk.key ]] || fail "a key was made in a file"
refused already_exists seal "$work/safe/umk.key"
refused already_exists seal --fresh "$work/safe/umk.key"

store reseal --pcr0 "$(extended "$(value pcr0 "$sealed")")" --pcr7 "$(value pcr7 "$sealed")" >/dev/null || fail "reseal"
opens "before the update"
extend_pcr0
opens "after the update"
store reseal >/dev/null || fail "reseal after the update"
stop
switch_on
refused tpm_pcr_mismatch status
mv "$work/home/keys/umk.tpm2" "$work/safe/"
head -c 32 /dev/zero | tr '\0' '\7' | install -m 600 /dev/stdin "$work/safe/wrong.key"
refused encryption_key_changed seal "$work/safe/wrong.key"
[[ ! -e $work/home/keys/umk.tpm2 ]] || fail "a key that opens nothing is sealed"
store seal "$work/safe/umk.key" >/dev/null || fail "the copy is not sealed"
opens "with the copy"
echo "tpm: sealed, resealed, updated, taken back and restored from the copy"
