#!/usr/bin/env bash
# Builds a real Kubernetes from its Go modules into target/kubernetes/bin; what is there already is kept.
#
#   scripts/kubernetes/build.sh [PROGRAM...]     etcd, kube-apiserver, kube-scheduler and kubectl (these
#                                                by default), kube-controller-manager, kubelet
set -euo pipefail
cd "$(dirname "$0")"
version=v1.34.4
root=$(cd ../.. && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/kubernetes/bin
export PATH="$PATH:/usr/local/go/bin" GOTOOLCHAIN=local CGO_ENABLED=0
command -v go >/dev/null || { echo "build.sh: go is missing: install Go 1.24 or later, then run this again" >&2; exit 1; }

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-scheduler kubectl
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
mkdir -p "$bin"
# What the programs are made of; another module file means another program.
made_of=$(cat go.mod go.sum etcd/main.go build.sh | sha256sum | cut -c1-16)
for program in "$@"; do
  case $program in
    etcd) package=./etcd ;;
    kube-apiserver | kube-scheduler | kube-controller-manager | kubectl | kubelet) package=k8s.io/kubernetes/cmd/$program ;;
    *) echo "build.sh: no program $program; there are etcd, kube-apiserver, kube-scheduler, kube-controller-manager, kubectl and kubelet" >&2; exit 2 ;;
  esac
  built=$bin/$program
  [ -x "$built" ] && [ "$(cat "$built.made-of" 2>/dev/null)" = "$made_of" ] && continue
  echo "Building $program $version (minutes the first time)"
  start=$SECONDS
  nice -n 10 go build -mod=readonly -trimpath -ldflags "-s -w $stamp" -o "$built.new" "$package"
  mv "$built.new" "$built"
  echo "$made_of" >"$built.made-of"
  echo "Built $built in $((SECONDS - start)) s"
done
