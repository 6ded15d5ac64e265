#!/usr/bin/env bash
# Says what this machine has, what is missing and what will be installed, before anything is
# changed; then, with --install, installs it. Reuses what is there, removes nothing, starts no service.
#
#   scripts/preflight.sh [--install] WHAT...     WHAT: demo, test, bench
set -u
install=no
[ "${1:-}" = --install ] && { install=yes; shift; }
purposes=" ${*:-demo} "
gvisor_version=v0.0.0-20260701204157-69c2d17aea96
gvisor_dir=/usr/local/bin
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

echo "Cofferdam looks at this machine (nothing is changed by looking):"
[ "$(id -u)" = 0 ] && row root yes "" || bad root "pods need namespaces and mounts: run this as root"
major=$(uname -r | cut -d. -f1); minor=$(uname -r | cut -d. -f2)
if [ "$major" -gt 5 ] || { [ "$major" = 5 ] && [ "$minor" -ge 10 ]; }; then row kernel yes "$(uname -r)"
else bad kernel "$(uname -r) is older than 5.10, which overlay's volatile mounts need: upgrade the kernel"; fi
for fs in overlay tmpfs; do
  grep -qw "$fs" /proc/filesystems || modprobe -n "$fs" 2>/dev/null || bad "$fs" "the kernel has no $fs file system"
done
for ns in net ipc uts pid mnt; do
  [ -e "/proc/self/ns/$ns" ] || bad "ns/$ns" "the kernel has no $ns namespaces"
done
if [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then row cgroups v2 /sys/fs/cgroup
elif grep -q ' - cgroup ' /proc/self/mountinfo; then
  grep -q ' - cgroup2 ' /proc/self/mountinfo && row cgroups hybrid "v1 controllers, with a v2 mount beside them" || row cgroups v1 ""
else bad cgroups "no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup"; fi
free_mb=$(df -Pm /var/lib 2>/dev/null | awk 'NR==2{print $4}')
[ "${free_mb:-0}" -ge 3000 ] && row disk "${free_mb}M" "free under /var/lib" || bad disk "${free_mb:-0} MiB free under /var/lib; 3000 are needed"
if command -v dockerd >/dev/null 2>&1 || [ -S /var/run/docker.sock ]; then
  policy=$(iptables -S FORWARD 2>/dev/null | head -n 1)
  case "$policy" in
    *DROP*) row docker there "its FORWARD policy is DROP: pods reach each other, but not the outside; to allow it: iptables -I DOCKER-USER -i cofferdam0 -j ACCEPT" ;;
    *) row docker there "its FORWARD policy lets our bridge through" ;;
  esac
fi
if command -v ip >/dev/null 2>&1; then
  clash=$(ip -4 -o addr show 2>/dev/null | awk '$2!="cofferdam0"{print $2, $4}' | awk '$2 ~ /^10\.89\./')
  [ -z "$clash" ] && row addresses free "10.89.0.0/16 for pods" || bad addresses "10.89.0.0/16 is used by $clash: set subnet under [network] in /etc/cofferdam/config.toml"
fi

if command -v cargo >/dev/null 2>&1; then row rust there "$(cargo --version 2>/dev/null)"
else bad rust "install Rust 1.95 or later with rustup, then run this again"; fi
need cc build-essential "Rust links with it"
need runc runc "class standard"
need crun crun "class fast"
need busybox busybox-static "the image is built from it"
need nft nftables "pods reach the outside through it"
case "$purposes" in *test*|*bench*)
  need skopeo skopeo "images are converted with it"
  need umoci umoci "images are built with it"
  need ip iproute2 "the tests look at links with it"
  need jq jq "the tests look at JSON with it"
esac
case "$purposes" in *bench*)
  need containerd containerd "the peer that is measured beside ours"
  need hyperfine hyperfine "times whole commands"
  [ -x /usr/lib/cni/bridge ] || { row cni install "Debian package containernetworking-plugins: containerd's network"; packages+=(containernetworking-plugins); }
esac
gvisor=there
if command -v runsc >/dev/null 2>&1; then row runsc there "$(command -v runsc)"
elif command -v go >/dev/null 2>&1; then row runsc install "gVisor $gvisor_version, built with $(go version | cut -d' ' -f3) into $gvisor_dir (about a minute)"; gvisor=go
else row runsc install "Debian package runsc (of 2022; where its canary fails, install Go and run this again)"; gvisor=debian; packages+=(runsc); fi

if [ "$wrong" = 1 ]; then
  echo "Nothing was changed: mend what is MISSING first." >&2
  exit 1
fi
if [ ${#packages[@]} = 0 ] && [ $gvisor = there ]; then
  echo "Nothing needs to be installed."
  exit 0
fi
if [ $install = no ]; then
  echo "With --install, this would install:${packages[*]:+ ${packages[*]}}$([ $gvisor = go ] && echo ' and gVisor')"
  exit 0
fi
if [ ${#packages[@]} -gt 0 ]; then
  echo "Installing: ${packages[*]}"
  apt-get update -qq || { echo "apt-get update failed: look at the machine's package sources" >&2; exit 1; }
  # Debian starts a package's services at once; a peer that is measured is started by the bench itself.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made_policy=yes; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "${packages[@]}" >/dev/null
  status=$?
  [ "${made_policy:-no}" = yes ] && rm -f $policy
  [ $status = 0 ] || { echo "apt-get could not install: ${packages[*]}" >&2; exit 1; }
fi
if [ $gvisor = go ]; then
  echo "Building gVisor $gvisor_version"
  CGO_ENABLED=0 GOBIN=$gvisor_dir go install "gvisor.dev/gvisor/runsc@$gvisor_version" ||
    { echo "gVisor could not be built: install runsc by hand into $gvisor_dir, then run this again" >&2; exit 1; }
fi
