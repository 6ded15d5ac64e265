#!/usr/bin/env bash
# Runs tests of pods in a virtual machine that boots Debian's kernel with cgroup v2 alone, as its own
# machine rarely has it. QEMU emulates the processor, so any x86-64 machine will do. Outside
# target/cgroup2 nothing changes, but that QEMU is installed where it is missing (told first).
#
#   scripts/cgroup2/run.sh             what the file `suite` lists
#   scripts/cgroup2/run.sh all         each test of the programs that it lists: hours
#   scripts/cgroup2/run.sh PART...     the tests of these programs whose names contain a PART
#
# With CGROUP2_PROGRAMS='cli/root_resize engine/root_kubelet' only these programs of the suite run.
#
# The last line is `cgroup v2: N passed, M failed`; exit code 0 where all passed, 1 where one did not,
# 2 where the guest did not come to its end.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=scripts/cgroup2 work=target/cgroup2
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# Seconds after which the guest is ended, whatever it does.
limit=${CGROUP2_SECONDS:-5400}

die() { echo "$0: $1" >&2; exit 2; }

look() {
  [ "$(uname -m)" = x86_64 ] || die "the guest is an x86-64 one and runs this machine's programs: an x86-64 machine is needed"
  for needed in cargo jq crun runc runsc nft ip script strip mkfs.ext4 gzip; do
    command -v "$needed" >/dev/null || die "$needed is missing: run scripts/preflight.sh --install test first"
  done
  for busybox in /usr/local/lib/cofferdam/busybox /usr/bin/busybox /bin/busybox ""; do
    [ -x "$busybox" ] && ! ldd "$busybox" >/dev/null 2>&1 && break
  done
  [ -n "$busybox" ] || die "a static busybox is missing: run scripts/preflight.sh --install test first"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }

get_qemu() {
  command -v qemu-system-x86_64 >/dev/null && return
  echo "Installing Debian package qemu-system-x86: the guest runs in it"
  install() { apt install -y --no-install-recommends --no-remove qemu-system-x86 >"$work/apt.log" 2>&1; }
  install || { apt update && install; } || { tail -n 20 "$work/apt.log" >&2; die "qemu-system-x86 cannot be installed"; }
}

# Debian's kernel for virtual machines, unpacked and never installed.
get_kernel() {
  ls "$work"/kernel/boot/vmlinuz-* >/dev/null 2>&1 && return
  newest() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
  [ -n "$(newest)" ] || apt update
  package=$(newest)
  [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: look at the machine's package sources"
  echo "Unpacking Debian package $package into $work/kernel: the guest boots it"
  rm -rf "$work/download" "$work/kernel" "$work/kernel.new" && mkdir "$work/download"
  # apt downloads as a user of its own, who must be able to write there.
  chmod 777 "$work/download"
  (cd "$work/download" && { apt download "$package" || { apt update && apt download "$package"; }; }) || die "$package cannot be downloaded"
  dpkg-deb -x "$work"/download/*.deb "$work/kernel.new"
  mv "$work/kernel.new" "$work/kernel"
  rm -rf "$work/download"
}

# The guest's kernel has AppArmor, and only this program loads its profiles. It is not installed here either.
get_apparmor() {
  parser=$work/apparmor/sbin/apparmor_parser
  [ -x "$parser" ] && return
  echo "Unpacking Debian package apparmor into $work/apparmor: the guest's kernel enforces its profiles"
  rm -rf "$work/download" && mkdir "$work/download" && chmod 777 "$work/download"
  (cd "$work/download" && { apt download apparmor || { apt update && apt download apparmor; }; }) || die "package apparmor cannot be downloaded"
  dpkg-deb -x "$work"/download/*.deb "$work/apparmor"
  rm -rf "$work/download"
}

# The lines of the suite: those of the programs that are asked for.
programs() {
  local program filters
  while read -r program filters; do
    [ -z "${CGROUP2_PROGRAMS:-}" ] || [[ " $CGROUP2_PROGRAMS " == *" $program "* ]] || continue
    echo "$program $filters"
  done < <(grep -v '^#' "$here/suite")
}

# The test programs, and the binary that they start by the path that they were built with.
build() {
  local crate program wanted=()
  while read -r program _; do
    crate=${program%/*}
    wanted+=(--package "cofferdam-$crate" --test "${program#*/}")
  done < <(programs)
  cargo test --no-run --locked --bin cofferdam --package cofferdam-cli "${wanted[@]}" --message-format json >"$work/build.json" || die "the tests do not build"
  built() { jq -r "select(.executable) | select($1) | .executable" "$work/build.json" | tail -n 1; }
  binary=$(built '.target.kind == ["bin"] and .target.name == "cofferdam" and (.profile.test | not)')
  [ -n "$binary" ] || die "cargo built no cofferdam"
}

# add FILE [TARGET]: a file of this machine, with the shared libraries that it wants.
add() {
  local library
  install -D "$1" "$root${2:-$1}"
  for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
    [ -e "$root$library" ] || install -D "$library" "$root$library"
  done
}

# The guest's programs: busybox, and those that it is no match for.
add_programs() {
  mkdir -p "$root"/{dev,proc,sys,run,tmp,root,etc,var/lib,suite,usr/{bin,sbin,lib,lib64,local/bin}}
  chmod 1777 "$root/tmp"
  ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root/"
  install "$busybox" "$root/usr/bin/busybox"
  local applet program
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s /usr/bin/busybox "$root/usr/bin/$applet"
  done
  # The kernel asks for modules here.
  ln -s /usr/bin/busybox "$root/usr/sbin/modprobe"
  for program in sh head ip script nft crun runc runsc; do
    rm -f "$root/usr/bin/$program"
    add "$(command -v "$program")" "/usr/bin/$program"
  done
  add "$parser" /usr/sbin/apparmor_parser
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  echo 'nameserver 192.0.2.1' >"$root/etc/resolv.conf"
}

# What is tested: the binary, and the test programs with the names of their tests.
add_suite() {
  local program filters test
  add "$binary"
  while read -r program filters; do
    test=$(built ".target.kind == [\"test\"] and (.target.src_path | endswith(\"/crates/${program/\//\/tests\/}.rs\"))")
    [ -n "$test" ] || die "$here/suite lists $program, and cargo built no such test program"
    program=${program/\//-}
    add "$test" "/suite/$program"
    case ${1:-} in "") ;; all) filters="" ;; *) filters="$*" ;; esac
    echo "$program $filters" >>"$root/suite/list"
  done < <(programs)
  [ -s "$root/suite/list" ] || die "none of \"$CGROUP2_PROGRAMS\" is in $here/suite"
  strip --strip-debug "$root$binary" "$root"/suite/*-root_*
  # One of the tests reads the engine's source.
  mkdir -p "$root$PWD/crates/cli" "$root$PWD/crates/engine"
  cp -r crates/engine/src "$root$PWD/crates/engine/"
}

add_modules() {
  local from=$work/kernel/lib/modules/$release to=$root/usr/lib/modules/$release part
  for part in net lib crypto arch fs/overlayfs drivers/net drivers/block drivers/virtio; do
    mkdir -p "$to/kernel/$(dirname "$part")" && cp -r "$from/kernel/$part" "$to/kernel/$part"
  done
  cp "$from"/modules.{builtin,order} "$to/"
  "$busybox" depmod -b "$root" "$release"
}

make_disk() {
  root=$work/root release=$(basename "$work"/kernel/boot/vmlinuz-*)
  release=${release#vmlinuz-}
  rm -rf "$root" "$work/disk"
  add_programs
  add_suite "$@"
  add_modules
  install "$here/init" "$root/init"
  mkfs.ext4 -q -F -m 0 -O ^has_journal -E lazy_itable_init=1 -d "$root" "$work/disk" 3G >/dev/null
  rm -rf "$root"
}

# A first file system in memory, which finds the disk and nothing more.
make_initrd() {
  local tree=$work/initrd.tree from=$work/kernel/lib/modules/$release/kernel/drivers module
  local modules=(virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev virtio/virtio_pci block/virtio_blk)
  rm -rf "$tree" && mkdir -p "$tree"/{bin,disk,dev}
  install "$busybox" "$tree/bin/busybox"
  {
    echo '#!/bin/busybox sh'
    echo '/bin/busybox mount -t devtmpfs dev /dev'
    for module in "${modules[@]}"; do
      cp "$from/$module.ko" "$tree/"
      echo "/bin/busybox insmod /$(basename "$module").ko"
    done
    echo '/bin/busybox mount -t ext4 /dev/vda /disk && exec /bin/busybox switch_root /disk /init'
    echo '/bin/busybox poweroff -f'
  } >"$tree/init"
  chmod 755 "$tree/init"
  (cd "$tree" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd"
  rm -rf "$tree"
}

# What emulation makes slow and no test needs is switched off: mitigations, audit, five page table levels,
# waiting for grace periods.
boot() {
  timeout --kill-after=10 "$limit" qemu-system-x86_64 \
    -machine q35 -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m 2048 \
    -kernel "$work/kernel/boot/vmlinuz-$release" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off audit=0 rcupdate.rcu_expedited=1 random.trust_cpu=on psi=1" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
    -nodefaults -no-reboot -display none -monitor none -serial stdio </dev/null 2>&1 | tee "$work/log"
}

# "test result: ok. 12 passed; 0 failed; ...", one a program; a program that died has none.
count() {
  local passed failed programs
  read -r passed failed programs < <(awk '
    / passed; / && /test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } n++ }
    END { print p + 0, f + 0, n + 0 }' "$work/log")
  echo
  grep -aE '^    [a-z_0-9:]+$' "$work/log" | sort -u | sed 's/^ */Failed: /' || true
  local wanted whole=yes
  wanted=$(programs | wc -l)
  grep -aq '^== the end' "$work/log" && [ "$programs" = "$wanted" ] || whole=no
  [ $whole = yes ] || echo "Only $programs of $wanted test programs came to their end: the lines above say why"
  echo "cgroup v2: $passed passed, $failed failed"
  [ $whole = yes ] || exit 2
  [ "$failed" = 0 ] && [ "$passed" != 0 ]
}

mkdir -p "$work"
look
get_qemu
get_kernel
get_apparmor
build
make_disk "$@"
make_initrd
echo "Booting Linux $release with cgroup v2 alone, in software emulation"
boot || echo "QEMU ended with an error, or was ended after $limit s"
rm -f "$work/disk"
count
