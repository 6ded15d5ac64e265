#!/usr/bin/env bash
# Builds a real Kubernetes from its Go modules into target/kubernetes/bin; what is there already is kept.
#
#   scripts/kubernetes/build.sh [PROGRAM...]     etcd, kube-apiserver, kube-scheduler and kubectl (these
#                                                by default), kube-controller-manager, kubelet, metrics-server;
#                                                e2e.test and agnhost, upstream's tests and their
#                                                image's program
set -euo pipefail
cd "$(dirname "$0")"
version=v1.34.4
root=$(cd ../.. && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/kubernetes/bin
export PATH="$PATH:/usr/local/go/bin" CGO_ENABLED=0
command -v go >/dev/null || { echo "build.sh: go is missing: install Go 1.24 or later, then run this again" >&2; exit 1; }

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-scheduler kubectl
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
mkdir -p "$bin"
# What the programs are made of; another module file means another program.
made_of_kubernetes=$(cat go.mod go.sum etcd/main.go e2e/e2e_test.go build.sh | sha256sum | cut -c1-16)
for program in "$@"; do
  make=build folder=. made_of=$made_of_kubernetes flags=$stamp toolchain=local
  case $program in
    # A module of its own, which wants newer modules than Kubernetes, and a newer Go, which Go gets by itself.
    metrics-server)
      folder=metrics package=sigs.k8s.io/metrics-server/cmd/metrics-server flags= toolchain=auto
      made_of=$(cat metrics/go.mod metrics/go.sum | sha256sum | cut -c1-16)
      ;;
    e2e.test) make="test -c" package=./e2e ;;
    agnhost) package=k8s.io/kubernetes/test/images/agnhost ;;
    etcd) package=./etcd ;;
    kube-apiserver | kube-scheduler | kube-controller-manager | kubectl | kubelet) package=k8s.io/kubernetes/cmd/$program ;;
    *) echo "build.sh: no program $program; there are etcd, kube-apiserver, kube-scheduler, kube-controller-manager, kubectl, kubelet, metrics-server, e2e.test and agnhost" >&2; exit 2 ;;
  esac
  built=$bin/$program
  [ -x "$built" ] && [ "$(cat "$built.made-of" 2>/dev/null)" = "$made_of" ] && continue
  echo "Building $program (minutes the first time)"
  start=$SECONDS
  # shellcheck disable=SC2086
  GOTOOLCHAIN=$toolchain nice -n 10 go -C "$folder" $make -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$built.new" "$package"
  mv "$built.new" "$built"
  echo "$made_of" >"$built.made-of"
  echo "Built $built in $((SECONDS - start)) s"
done
