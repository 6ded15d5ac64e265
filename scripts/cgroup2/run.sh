#!/usr/bin/env bash
# Runs the root tests that concern cgroups in a virtual machine that boots Debian's kernel with the
# unified hierarchy alone. QEMU emulates the processor, so any machine will do. Nothing of this
# machine changes but target/cgroup2, and QEMU is installed where it is missing (told first).
#
#   scripts/cgroup2/run.sh [TEST...]     tests whose names contain TEST; all of the lists below without
#
# The last line is `cgroup v2: N passed, M failed`, and the exit code 0 where all passed.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=scripts/cgroup2 work=target/cgroup2
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# Test programs, and the tests of each that say nothing about cgroups or need what the guest has not.
programs="${CGROUP2_PROGRAMS:-root_cgroup root_isolation root_run root_pods root_verbs root_recovery}"
# Seconds until the guest is ended, whatever it does.
limit=${CGROUP2_SECONDS:-1500}

die() { echo "$0: $1" >&2; exit 2; }

[ "$(uname -m)" = x86_64 ] || die "the guest is an x86-64 one, and its programs are this machine's: run this on x86-64"
for needed in cargo jq crun runc runsc nft ip script mkfs.ext4; do
  command -v "$needed" >/dev/null || die "$needed is missing: run scripts/preflight.sh --install test first"
done
for busybox in /usr/local/lib/cofferdam/busybox /usr/bin/busybox /bin/busybox ""; do
  [ -x "$busybox" ] && ! ldd "$busybox" >/dev/null 2>&1 && break
done
[ -n "$busybox" ] || die "a static busybox is missing: run scripts/preflight.sh --install test first"

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }

get_qemu() {
  command -v qemu-system-x86_64 >/dev/null && return
  echo "Installing Debian package qemu-system-x86: the guest runs in it"
  apt install -y --no-install-recommends --no-remove qemu-system-x86 >"$work/apt.log" 2>&1 ||
    { apt update && apt install -y --no-install-recommends --no-remove qemu-system-x86 >"$work/apt.log" 2>&1; } ||
    { tail -n 20 "$work/apt.log" >&2; die "qemu-system-x86 could not be installed"; }
}

# Debian's kernel for virtual machines, unpacked and never installed.
get_kernel() {
  ls "$work"/kernel/boot/vmlinuz-* >/dev/null 2>&1 && return
  package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
  [ -n "$(package)" ] || apt update
  echo "Unpacking Debian package $(package) into $work/kernel: the guest boots it"
  rm -rf "$work/download" "$work/kernel" && mkdir -p "$work/download"
  # apt downloads as a user of its own, who must be able to write there.
  chmod 777 "$work/download"
  (cd "$work/download" && { apt download "$(package)" || { apt update && apt download "$(package)"; }; }) || die "the kernel could not be downloaded"
  dpkg-deb -x "$work"/download/*.deb "$work/kernel.new"
  mv "$work/kernel.new" "$work/kernel"
  rm -rf "$work/download"
}

# The test programs and the binary that they start, where they were built: they know its path.
build() {
  cargo test --no-run --locked --package cofferdam-host --package cofferdam-cli --message-format json >"$work/build.json" || die "the tests do not build"
  executables() { jq -r "select(.executable != null) | select($1) | .executable" "$work/build.json"; }
  binary=$(executables '(.target.kind | index("bin")) and .target.name == "cofferdam" and (.profile.test | not)' | tail -n 1)
  [ -n "$binary" ] || die "cargo built no cofferdam"
  tests=()
  for program in $programs; do
    found=$(executables "(.target.kind | index(\"test\")) and .target.name == \"$program\"" | tail -n 1)
    [ -n "$found" ] || die "cargo built no test program $program"
    tests+=("$found")
  done
}

# add FILE [TARGET]: a file of this machine, and the shared libraries that it wants.
add() {
  local from=$1 to=$root${2:-$1} library
  mkdir -p "$(dirname "$to")" && cp -L "$from" "$to"
  for library in $(ldd "$from" 2>/dev/null | grep -o '/[^ ]*'); do
    [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"; }
  done
}

# The guest's root file system: busybox, the runtimes, and what is to be tested.
make_root() {
  root=$work/root
  rm -rf "$root" && mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc,dev,proc,sys,run,tmp,root,var/lib,var/tmp,suite,usr/local/bin}
  ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root/"
  install -m 755 "$busybox" "$root/usr/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s /usr/bin/busybox "$root/usr/bin/$applet"
  done
  ln -s /usr/bin/busybox "$root/usr/sbin/modprobe"
  for program in sh head crun runc runsc nft ip script; do
    rm -f "$root/usr/bin/$program"
    add "$(command -v "$program")" "/usr/bin/$program"
  done
  add "$binary"
  strip --strip-debug "$root$binary"
  for at in "${!tests[@]}"; do
    add "${tests[at]}" "/suite/$(printf %02d "$at")-$(basename "${tests[at]%-*}")"
  done
  strip --strip-debug "$root"/suite/*
  printf '%s\n' "$@" >"$root/suite.filters"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  echo 'nameserver 127.0.0.53' >"$root/etc/resolv.conf"
  install -m 755 "$here/init" "$root/init"
  # A test looks into the sources.
  (find crates/engine/src -name '*.rs' -print0 | xargs -0 -I{} install -D -m 644 {} "$root$PWD/{}")
  mkdir -p "$root$PWD/crates/cli"

  release=$(basename "$work"/kernel/boot/vmlinuz-*) release=${release#vmlinuz-}
  local from=$work/kernel/lib/modules/$release to=$root/usr/lib/modules/$release
  mkdir -p "$to/kernel/fs" "$to/kernel/drivers"
  cp "$from"/modules.{builtin,order} "$to/"
  cp -r "$from"/kernel/{net,lib,crypto,arch} "$to/kernel/"
  cp -r "$from/kernel/fs/overlayfs" "$to/kernel/fs/"
  cp -r "$from"/kernel/drivers/{net,block,virtio} "$to/kernel/drivers/"
  "$busybox" depmod -b "$root" "$release"

  rm -f "$work/disk"
  mkfs.ext4 -q -F -m 0 -O ^has_journal -E lazy_itable_init=1 -d "$root" "$work/disk" 3G
  rm -rf "$root"
}

# A first file system in memory, which knows how to find the disk and nothing more.
make_initrd() {
  local tree=$work/initrd.tree from=$work/kernel/lib/modules/$release/kernel/drivers module
  rm -rf "$tree" && mkdir -p "$tree"/{bin,modules,disk,dev,proc}
  install -m 755 "$busybox" "$tree/bin/busybox"
  for module in virtio/virtio_ring.ko virtio/virtio.ko virtio/virtio_pci_modern_dev.ko virtio/virtio_pci_legacy_dev.ko virtio/virtio_pci.ko block/virtio_blk.ko; do
    cp "$from/$module" "$tree/modules/"
  done
  cat >"$tree/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
  /bin/busybox insmod "/modules/$module.ko"
done
/bin/busybox mount -t ext4 /dev/vda /disk && exec /bin/busybox switch_root /disk /init
/bin/busybox poweroff -f
END
  chmod 755 "$tree/init"
  (cd "$tree" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd"
  rm -rf "$tree"
}

boot() {
  local options=(
    -accel "tcg,thread=multi" -machine q35 -cpu "max,la57=off" -m 2048 -smp 2
    -kernel "$work/kernel/boot/vmlinuz-$release" -initrd "$work/initrd"
    -append "console=ttyS0 quiet panic=-1 mitigations=off audit=0 rcupdate.rcu_expedited=1 random.trust_cpu=on"
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe"
    -display none -no-reboot -nodefaults -serial stdio -monitor none -net none
  )
  timeout --kill-after=10 "$limit" qemu-system-x86_64 "${options[@]}" </dev/null 2>&1 | tee "$work/log"
}

mkdir -p "$work"
get_qemu
get_kernel
build
make_root "$@"
make_initrd
echo "Booting Linux $release with cgroup v2 alone, in software emulation"
began=$SECONDS
boot || true
