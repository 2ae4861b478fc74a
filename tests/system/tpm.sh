#!/usr/bin/env bash
# The encrypted store with its master key in a TPM 2.0: swtpm, an emulator, since nobody may extend the registers of the
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
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --features blue-encrypted-store/tpm2 --lib -- --nocapture tpm:: 2>&1 | tee "$log" || fail "the tests with swtpm"
! grep -q '^skipped: ' "$log" || fail "swtpm is installed and does not run"
