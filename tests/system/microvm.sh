#!/usr/bin/env bash
# Guests that boot: an image's program in a microVM on QEMU with emulation, and every way in which such a guest can misbehave.
# QEMU, a kernel and what makes the image are installed from Debian where that is allowed; where it is not, the test is
# skipped and says so.
# Usage: tests/system/microvm.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "skipped: microvm: $1"; exit 0; }
fail() { echo "FAILED microvm: $1" >&2; exit 1; }

[[ $(uname -sm) = "Linux x86_64" ]] || skip "it takes Linux on x86-64"
missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
command -v cpio >/dev/null || missing+=(cpio)
[[ -x /bin/busybox ]] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static)
compgen -G '/boot/vmlinuz-*' >/dev/null && compgen -G '/lib/modules/*/modules.dep' >/dev/null || missing+=(linux-image-cloud-amd64)
if [[ ${#missing[@]} -gt 0 ]]; then
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# With the features of the whole workspace, so that nothing is compiled a second time.
cargo test --workspace --test boot -- --nocapture --test-threads 2 2>&1 | tee "$log" || fail "the tests that boot"
! grep -q 'skipped: no guest boots here' "$log" || fail "what was installed is not found"
grep -Eq '^test result: ok\. [1-9]' "$log" || fail "no test ran"
echo "microvm: every guest came to its own end"
