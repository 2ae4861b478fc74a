#!/usr/bin/env bash
# A machine in the machine: emulated, with AMD's virtualization, which is what Firecracker takes; in it a command that runs a
# program, /program, beside the files of a folder.
# Needs what tests/system/microvm.sh installs.
# Usage: tests/system/nested.sh PROGRAM FIRECRACKER FILES COMMAND
set -euo pipefail
program=$1 firecracker=$2 files=$3 command=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
kernel=$(ls /boot/vmlinuz-*cloud* | sort -V | tail -n 1)
modules=/lib/modules/${kernel#/boot/vmlinuz-}

# Every library that a program names, at its place.
libraries() {
    local file
    for file in $(ldd "$1" | grep -o '/[^ ]*'); do install -D "$file" "$tree$file"; done
}
# The files of a driver and of those that it needs, the first to load first.
driver() {
    local line
    line=$(grep -m 1 "/$1.ko:" "$modules/modules.dep")
    tac -s ' ' <<<"${line#*:} " | tr '\n' ' '
    echo "${line%%:*}"
}

mkdir -p "$tree"/{dev,proc,sys,tmp,bin,boot,etc,usr/bin} "$tree$modules"
strip -o "$tree/program" "$program"
[[ -z $files ]] || cp -r "$files"/. "$tree"
libraries "$program"
for tool in setpriv prlimit unshare mkfs.ext4; do
    install -D "$(command -v "$tool")" "$tree/usr/bin/$tool"
    libraries "$(command -v "$tool")"
done
install "$firecracker" "$tree/usr/bin/firecracker"
install /bin/busybox "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
cp /etc/mke2fs.conf "$tree/etc/"
cp "$kernel" "$tree/boot/"
cp "$modules"/modules.{dep,builtin} "$tree$modules/"
for name in kvm-amd virtio_mmio virtio_blk virtio_console vmw_vsock_virtio_transport; do
    for path in $(driver "$name"); do install -D -m 644 "$modules/$path" "$tree$modules/$path"; done
done

cat >"$tree/init" <<END
#!/bin/sh
/bin/busybox --install -s /bin
# Tools before applets of the same name.
export PATH=/usr/bin:/bin TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=1777 tmp /tmp
for module in $(driver kvm-amd); do insmod $modules/\$module; done
ip link set lo up
# As udev leaves it on a machine that is installed.
chown 0:36 /dev/kvm
chmod 660 /dev/kvm
$command && echo nested: passed
poweroff -f
END
chmod +x "$tree/init"
(cd "$tree" && find . | cpio --quiet -o -H newc) >"$work/initramfs"
timeout 900 qemu-system-x86_64 -M q35 -accel tcg -cpu EPYC -smp 1 -m 2048 -nodefaults -no-user-config -no-reboot -display none \
    -serial stdio -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
    </dev/null 2>"$work/errors" || { cat "$work/errors" >&2; exit 1; }
