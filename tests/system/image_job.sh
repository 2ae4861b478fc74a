#!/usr/bin/env bash
# A container image through the whole mesh: one node imports it and submits the jobs, another fetches it and runs every task
# in a virtual machine, and what comes back is verified. On QEMU with emulation; and on Firecracker, in an emulated machine
# whose processor has virtualization. The image is Debian's busybox, made by umoci.
# What it takes is installed from Debian in CI; where it is not there, the test is skipped and says so.
# Usage: tests/system/image_job.sh PROGRAM
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "skipped: image_job: $1"; exit 0; }
fail() { echo "FAILED image_job: $1" >&2; exit 1; }

program=$(realpath "${1:?usage: tests/system/image_job.sh PROGRAM}")
readonly program packages=(qemu-system-x86 linux-image-cloud-amd64 busybox-static umoci cpio e2fsprogs)

tools() {
    local missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    # A package of a kernel would be started by the machine's next boot.
    [[ -n ${CI:-} ]] || skip "${missing[*]} is missing, and nothing is installed on a machine that is not CI's (CI=true)"
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || skip "${missing[*]} is missing and cannot be installed here"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || skip "${missing[*]} cannot be installed"
}

# A layout with one image: a shell, and an account that is not root.
make_image() {
    local root=$work/bundle/rootfs
    umoci init --layout "$work/layout"
    umoci new --image "$work/layout:busybox"
    umoci unpack --rootless --image "$work/layout:busybox" "$work/bundle"
    mkdir -p "$root/bin" "$root/etc" "$root/tmp"
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for applet in sh cat id head ls sleep wget yes; do ln -s busybox "$root/bin/$applet"; done
    printf 'root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
    umoci repack --image "$work/layout:busybox" "$work/bundle"
    umoci config --image "$work/layout:busybox" --config.entrypoint /bin/sh --config.entrypoint=-c \
        --config.cmd "echo hello; exit 0" --config.env A=image --config.workingdir /tmp --config.user worker
}

[[ $(uname -sm) = "Linux x86_64" ]] || skip "microVMs take Linux on x86-64"
command -v dpkg-query >/dev/null || skip "this is no Debian"
tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_image >"$work/umoci.log" 2>&1 || { cat "$work/umoci.log" >&2; fail "umoci made no image"; }

# Nothing of it leaves this machine: both nodes are on a loopback of their own.
unshare=(unshare --net)
[[ $(id -u) = 0 ]] || unshare+=(--map-root-user)
"${unshare[@]}" true 2>/dev/null || skip "this machine makes no network namespaces"
"${unshare[@]}" sh -c 'ip link set lo up && exec "$0" "$@"' \
    sh tests/system/image_job/jobs.sh "$program" "$work/layout" "$work/nodes" qemu_emulation || fail "jobs on QEMU"

# The same nodes, jobs and checks where Firecracker works, with what costs an emulated machine most left out.
firecracker=$(tests/system/firecracker.sh "$work") || {
    [[ $? = 1 ]] && skip "Firecracker cannot be fetched: jobs ran on QEMU alone"
    fail "Firecracker"
}
mkdir -p "$work/files/jobs"
cp -r "$work/layout" tests/system/image_job/jobs.sh "$work/files/jobs/"
tests/system/nested.sh "$program" "$firecracker" "$work/files" \
    "/bin/sh /jobs/jobs.sh /program /jobs/layout /tmp/nodes firecracker" 2>&1 | tee "$work/nested.log"
grep -q '^nested: passed' "$work/nested.log" || fail "jobs on Firecracker"
echo "image_job: images ran through the mesh, on QEMU and on Firecracker, and every receipt was verified"
