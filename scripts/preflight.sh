#!/usr/bin/env bash
# Says what this machine has, what is missing and what will be installed, and why, before anything
# is changed; then, with --install, installs it. Reuses what is there, removes no package, starts no
# service.
#
#   scripts/preflight.sh [--install] WHAT...     WHAT: demo, test, bench, fuzz, kubernetes
set -u
cd "$(dirname "$0")/.." || exit 1
install=no
[ "${1:-}" = --install ] && { install=yes; shift; }
[ $# -gt 0 ] || set -- demo
for what in "$@"; do
  case $what in demo | test | bench | fuzz | kubernetes) ;; *) echo "usage: scripts/preflight.sh [--install] demo|test|bench|fuzz|kubernetes" >&2; exit 2 ;; esac
done
purposes=" $* "
wants() { for w in "$@"; do [[ $purposes == *" $w "* ]] && return 0; done; return 1; }

rust_minor=95
gvisor_version=v0.0.0-20260701204157-69c2d17aea96
gvisor_dir=/usr/local/bin
busybox_dir=/usr/local/lib/cofferdam
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin:$HOME/.cargo/bin"

wrong=0
packages=()
row() { printf '  %-12s %-8s %s\n' "$1" "$2" "$3"; }
bad() { row "$1" MISSING "$2"; wrong=1; }
# A program, the package that brings it, and what it is for.
need() {
  if command -v "$1" >/dev/null 2>&1; then
    row "$1" there "$(command -v "$1")"
  else
    row "$1" install "Debian package $2: $3"
    packages+=("$2")
  fi
}

look_at_kernel() {
  local major minor fs
  major=$(uname -r | cut -d. -f1) minor=$(uname -r | cut -d. -f2)
  if [ "$major" -gt 5 ] || { [ "$major" = 5 ] && [ "$minor" -ge 10 ]; }; then row kernel yes "$(uname -r)"
  else bad kernel "$(uname -r) is older than 5.10, which overlay's volatile mounts need: upgrade the kernel"; fi
  for fs in overlay tmpfs; do
    grep -qw "$fs" /proc/filesystems || modprobe -n "$fs" 2>/dev/null || bad "$fs" "the kernel has no $fs file system: load or build its module"
  done
  if unshare --mount --propagation unchanged --net --pid --ipc --uts --fork true 2>/dev/null; then row namespaces yes "mount, net, pid, ipc, uts"
  else bad namespaces "this shell may not make namespaces (a container without privileges?): run this on the machine itself"; fi
  if [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then row cgroups v2 /sys/fs/cgroup
  elif grep -q ' - cgroup2 ' /proc/self/mountinfo && grep -q ' - cgroup ' /proc/self/mountinfo; then
    row cgroups hybrid "v1 controllers, with a v2 mount beside them"
  elif grep -q ' - cgroup ' /proc/self/mountinfo; then row cgroups v1 ""
  else bad cgroups "no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup"; fi
}

# room NAME FOLDER MIB WHY; the nearest folder that exists counts.
room() {
  local dir=$2 free
  while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
  free=$(df -Pm "$dir" | awk 'NR == 2 {print $4}')
  if [ "${free:-0}" -ge "$3" ]; then row "$1" "${free}M" "free in $dir: $4"
  else bad "$1" "${free:-0} MiB are free in $dir, $3 are needed: $4"; fi
}

look_at_disk() {
  local mib=2500
  wants test && mib=8000
  [ -d target ] && mib=500
  room "disk, build" "$PWD" $mib "what cargo builds"
  wants fuzz || room "disk, pods" /var/lib/cofferdam 500 "images and pods"
}

# A FORWARD chain that drops is Docker's, or a firewall's; it is told, not touched.
look_at_forwarding() {
  local docker=no who="a firewall's" chain=FORWARD reach="pods reach each other, but nothing outside"
  if command -v dockerd >/dev/null 2>&1 || [ -S /var/run/docker.sock ]; then docker=yes who="Docker's" chain=DOCKER-USER; fi
  if [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null)" = 1 ]; then
    reach="pods reach neither each other (this machine filters bridges, too) nor the outside"
  fi
  if iptables -S FORWARD 2>/dev/null | grep -q '^-P FORWARD DROP'; then
    row forwarding drops "$who FORWARD policy: $reach; to allow it:"
    row "" "" "iptables -I $chain -i cofferdam0 -j ACCEPT; iptables -I $chain -o cofferdam0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
  elif nft list chains 2>/dev/null | grep -q 'hook forward.*policy drop'; then
    row forwarding drops "a chain of nftables: $reach; accept what comes from and goes to cofferdam0 there"
  elif [ $docker = yes ]; then row docker there "its FORWARD policy lets pods through"
  fi
}

number() { local a b c d; IFS=. read -r a b c d <<<"$1"; echo $(((a << 24) + (b << 16) + (c << 8) + d)); }
# As /proc/net/route writes addresses: hexadecimal, last byte first.
hex() { echo $((16#${1:6:2}${1:4:2}${1:2:2}${1:0:2})); }

# Whether a route (not a default one, not our bridge's) overlaps the pods' addresses.
look_at_addresses() {
  local subnet bridge ours mask link to others clash="" _
  subnet=$(cat /etc/cofferdam/config.toml /etc/cofferdam/conf.d/*.toml 2>/dev/null | sed -n 's/^ *subnet *= *"\([0-9./]*\)".*/\1/p' | tail -n 1)
  bridge=$(cat /etc/cofferdam/config.toml /etc/cofferdam/conf.d/*.toml 2>/dev/null | sed -n 's/^ *bridge *= *"\([^"]*\)".*/\1/p' | tail -n 1)
  subnet=${subnet:-10.89.0.0/16} bridge=${bridge:-cofferdam0}
  ours=$(number "${subnet%/*}") mask=$(((0xffffffff << (32 - ${subnet#*/})) & 0xffffffff))
  while read -r link to _ _ _ _ _ others _; do
    { [ "$link" = Iface ] || [ "$link" = "$bridge" ] || [ "$others" = 00000000 ]; } && continue
    to=$(hex "$to") others=$(($(hex "$others") & mask))
    [ $((to & others)) = $((ours & others)) ] && clash="$clash $link"
  done </proc/net/route
  if [ -z "$clash" ]; then row addresses free "$subnet for pods"
  else bad addresses "$subnet, the pods', overlaps a route of$clash: set another subnet under [network] in /etc/cofferdam/config.toml"; fi
}

look_at_rust() {
  local version
  version=$(cargo --version 2>/dev/null)
  local minor=${version#cargo 1.}
  if [ -z "$version" ]; then bad rust "install Rust 1.$rust_minor or later with rustup, then run this again"
  elif [ "${minor%%.*}" -ge $rust_minor ] 2>/dev/null; then row rust there "$version"
  else bad rust "$version is older than 1.$rust_minor: run rustup update stable"; fi
  need cc build-essential "Rust links with it"
  # The monitor is a static program.
  if command -v cc >/dev/null 2>&1; then
    [ -e "$(cc -print-file-name=libc.a)" ] || { row libc.a install "Debian package libc6-dev: the monitor is linked with it"; packages+=(libc6-dev); }
  fi
}

# The image is made of one static busybox. Debian's other busybox is dynamic, and the two exclude each
# other: where that one is there, the static one is unpacked beside it.
busybox=there
look_at_busybox() {
  local path
  for path in "$busybox_dir/busybox" /usr/bin/busybox /bin/busybox; do
    [ -x "$path" ] && ! ldd "$path" >/dev/null 2>&1 && { row busybox there "$path (static)"; return; }
  done
  if command -v busybox >/dev/null 2>&1; then
    row busybox unpack "the one here is dynamic and stays; Debian package busybox-static is unpacked into $busybox_dir: the image is made of it"
    busybox=unpack
  else
    row busybox install "Debian package busybox-static: the image is made of it"
    packages+=(busybox-static)
  fi
}

# The runsc of Debian 12 is of 2022, and newer kernels are too much for it.
gvisor=there
look_at_gvisor() {
  local go here old=no
  go=$(go env GOVERSION 2>/dev/null)
  local minor=${go#go1.}
  here=$(command -v runsc)
  [ -n "$here" ] && "$here" --version 2>/dev/null | grep -q 'version 0\.0~2022' && old=yes
  if [ -n "$here" ] && [ $old = no ]; then row runsc there "$here: class gvisor"
  # From 1.21 on, Go gets by itself the newer Go that gVisor asks for.
  elif [ "${minor%%.*}" -ge 21 ] 2>/dev/null; then
    row runsc install "class gvisor: gVisor $gvisor_version, built with $go into $gvisor_dir (about a minute)"
    gvisor=go
  elif [ $old = yes ]; then
    row runsc old "$here: class gvisor; where its canary fails, install Go 1.21 or later and run this again"
  else
    row runsc install "class gvisor: Debian package runsc, of 2022; where its canary fails, install Go 1.21 or later and run this again"
    packages+=(runsc)
  fi
}

echo "Cofferdam looks at this machine (nothing is changed by looking):"
if [ "$(id -u)" = 0 ]; then row root yes ""
elif ! wants demo test bench kubernetes; then row root no "not needed, unless something must be installed"
else bad root "pods need namespaces and mounts: run this as root"; fi
if wants demo test bench kubernetes; then
  look_at_kernel
  look_at_forwarding
  wants demo bench && look_at_addresses
fi
look_at_disk
look_at_rust
if wants demo test bench kubernetes; then
  need runc runc "class standard"
  need crun crun "class fast"
  need nft nftables "pods reach the outside through it"
  look_at_busybox
  look_at_gvisor
fi
if wants test bench; then
  need skopeo skopeo "images are converted with it"
  need umoci umoci "images are built with it"
  need ip iproute2 "links are looked at with it"
  need jq jq "JSON is looked at with it"
  need docker-registry docker-registry "images are pulled from it; it is not started now"
  need mkfs.erofs erofs-utils "images become block images with it"
  [ -x /usr/lib/cni/bridge ] || { row cni install "Debian package containernetworking-plugins: networks by CNI"; packages+=(containernetworking-plugins); }
fi
if wants bench; then
  need containerd containerd "the peer that is measured beside ours; it is not started now"
  need hyperfine hyperfine "times whole commands"
fi
wants fuzz && need g++ g++ "the fuzzer is C++"
if wants kubernetes; then
  need openssl openssl "the API server's certificates"
  need curl curl "it is asked whether it is ready"
  need jq jq "its answers are read with it"
  need ip iproute2 "the node has a network of its own"
  need script bsdutils "exec -it is tried on its terminal"
  need docker-registry docker-registry "the node's images are pulled from it; it is not started now"
  go=$(command -v go) && minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  if [ -n "$go" ] && [ "${minor:-0}" -ge 24 ]; then row go there "$(go env GOVERSION): builds Kubernetes"
  else bad go "Go 1.24 or later builds Kubernetes: install it from https://go.dev/dl/"; fi
fi

if [ ${#packages[@]} -gt 0 ] || [ $busybox = unpack ]; then
  command -v apt-get >/dev/null 2>&1 || bad apt-get "this is not Debian: install what is marked install above by hand, then run this again"
  [ "$(id -u)" = 0 ] || bad root "packages are to be installed: run this as root"
fi
if [ $wrong = 1 ]; then
  echo "Nothing was changed: mend what is MISSING first." >&2
  exit 1
fi
what="${packages[*]}"
[ $busybox = unpack ] && what="$what busybox-static (unpacked)"
[ $gvisor = go ] && what="$what gVisor"
if [ -z "$what" ]; then
  echo "Nothing needs to be installed."
elif [ $install = no ]; then
  echo "With --install, this would install: $what"
fi
wants demo && echo "The demo itself makes /var/lib/cofferdam, /run/cofferdam, the link cofferdam0 and an nftables table, turns net.ipv4.ip_forward on, and says at its end what is left."
{ [ -z "$what" ] || [ $install = no ]; } && exit 0

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }
# The lock of the lists has no time-out of its own.
update() {
  local try
  for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
    apt update && return
    [ "$try" = 12 ] || { echo "apt-get update failed; another apt may be at work: tried again in 10 s ($try of 11)"; sleep 10; }
  done
  echo "apt-get update failed: look at the machine's package sources; going on with the lists of before" >&2
}

scratch=$(mktemp -d) || exit 1
# Debian starts a package's services at once; this file forbids it until we are done.
forbid=/usr/sbin/policy-rc.d
trap 'rm -rf "$scratch"; [ -e "$scratch.forbid" ] && rm -f "$forbid" "$scratch.forbid"' EXIT
trap 'exit 130' INT TERM

if [ ${#packages[@]} -gt 0 ] || [ $busybox = unpack ]; then update; fi
if [ ${#packages[@]} -gt 0 ]; then
  echo "Installing: ${packages[*]}"
  [ -e $forbid ] || { touch "$scratch.forbid" && printf '#!/bin/sh\nexit 101\n' >$forbid && chmod 755 $forbid; }
  apt install -y --no-install-recommends --no-remove "${packages[@]}" >"$scratch/log" 2>&1 || {
    tail -n 20 "$scratch/log" >&2
    echo "apt-get could not install: ${packages[*]}" >&2
    exit 1
  }
fi
if [ $busybox = unpack ]; then
  echo "Unpacking busybox-static into $busybox_dir"
  # apt downloads as a user of its own, who must be able to write here.
  chmod 755 "$scratch" && mkdir "$scratch/deb" && chmod 777 "$scratch/deb"
  { (cd "$scratch/deb" && apt download busybox-static) && dpkg-deb -x "$scratch"/deb/busybox-static_*.deb "$scratch/x" &&
    install -D -m 755 "$scratch"/x/bin/busybox "$busybox_dir/busybox"; } ||
    { echo "busybox-static could not be unpacked: put a static busybox at $busybox_dir/busybox, then run this again" >&2; exit 1; }
fi
if [ $gvisor = go ]; then
  echo "Building gVisor $gvisor_version"
  CGO_ENABLED=0 GOBIN=$gvisor_dir go install -ldflags "-X gvisor.dev/gvisor/runsc/version.version=$gvisor_version" "gvisor.dev/gvisor/runsc@$gvisor_version" ||
    { echo "gVisor could not be built: put a runsc into $gvisor_dir by hand, then run this again" >&2; exit 1; }
fi
echo "Installed: $what"
