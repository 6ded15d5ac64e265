#!/usr/bin/env bash
# Runs a command on a real node: etcd, API server, controllers, scheduler, kubelet and a container
# runtime, in namespaces and cgroups of their own, so that nothing of it outlives the command and
# nothing of the machine changes: its own links and addresses, /etc, /var and /run are not touched.
#
#   scripts/kubernetes/node.sh COMMAND...
#
# RUNTIME     cofferdam (the default) or containerd, its peer
# COFFERDAM   its binary; built, where that is not set
# KEEP_LOGS   set, the logs stay where the command fails
# The command finds what start.sh tells of, and besides: RUNTIME_ENDPOINT (the CRI socket), and
# $KUBERNETES_FOLDER/runtime.pid; a runtime that is killed comes back, as a service manager brings it.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
[ $# -gt 0 ] || { echo "usage: scripts/kubernetes/node.sh COMMAND..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "node.sh: a kubelet needs root" >&2; exit 1; }
export RUNTIME=${RUNTIME:-cofferdam} PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin
case $RUNTIME in
  cofferdam) runtimes=(runc crun runsc nft) ;;
  containerd) runtimes=(runc crun runsc containerd iptables) ;;
  *) echo "node.sh: RUNTIME is cofferdam or containerd, not $RUNTIME" >&2; exit 2 ;;
esac
for tool in docker-registry ip "${runtimes[@]}"; do
  command -v "$tool" >/dev/null || { echo "node.sh: $tool is missing: run scripts/preflight.sh --install kubernetes" >&2; exit 1; }
done
./build.sh etcd kube-apiserver kube-scheduler kube-controller-manager kubectl kubelet metrics-server agnhost
if [ "$RUNTIME" = cofferdam ] && [ -z "${COFFERDAM:-}" ]; then (cd "$root" && cargo build --locked --package cofferdam-cli); fi
export COFFERDAM=${COFFERDAM:-${CARGO_TARGET_DIR:-$root/target}/debug/cofferdam}

# A cgroup of ours in every hierarchy becomes the root that the node sees.
name=cofferdam-kubernetes.$$
hierarchies=()
while read -r _ _ _ _ at _; do hierarchies+=("$at"); done < <(grep -E ' - cgroup2? ' /proc/self/mountinfo)
# The machine's own, which the kubelet sets.
tunables=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops)
declare -A before
for tunable in "${tunables[@]}"; do before[$tunable]=$(cat "/proc/sys/$tunable"); done
folder=$(mktemp -d /tmp/kubernetes.XXXXXX)
end() {
  local status=$? at dir try
  trap - EXIT
  # unshare heeds no signal but this one, and then kills all that it started.
  [ -z "${child:-}" ] || { kill -9 "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; }
  for tunable in "${tunables[@]}"; do
    [ "$(cat "/proc/sys/$tunable")" = "${before[$tunable]}" ] || echo "${before[$tunable]}" >"/proc/sys/$tunable"
  done
  for at in "${hierarchies[@]}"; do
    [ -d "$at/$name" ] || continue
    # The node's processes died with its process namespace; the kernel may still be at it.
    for try in {1..50}; do
      find "$at/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$at/$name" ] || break
      sleep 0.1
    done
    [ ! -d "$at/$name" ] || echo "node.sh: $at/$name could not be removed" >&2
  done
  if [ $status != 0 ] && [ "${KEEP_LOGS:-}" ]; then echo "node.sh: the logs are in $folder" >&2
  else rm -rf --one-file-system "$folder"; fi
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

# In the cgroups, then in the namespaces; the words after the first are the command.
inside='
  for at in $HIERARCHIES; do
    mkdir "$at/$NAME"
    if [ -e "$at/$NAME/cpuset.cpus" ]; then
      cat "$at/cpuset.cpus" >"$at/$NAME/cpuset.cpus"
      cat "$at/cpuset.mems" >"$at/$NAME/cpuset.mems"
    fi
    echo $$ >"$at/$NAME/cgroup.procs"
  done
  unset HIERARCHIES NAME
  exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --mount-proc "$@"'
HIERARCHIES=${hierarchies[*]} NAME=$name KUBERNETES_FOLDER=$folder bash -euc "$inside" node.sh ./start.sh --node "$@" <&0 &
child=$!
wait $child && status=0 || status=$?
child=
exit $status
