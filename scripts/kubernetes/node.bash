# What start.sh --node starts besides the API server: a registry, the container runtime and a kubelet.
# It is read by start.sh, in the namespaces that node.sh made. All addresses are those of a network
# namespace of its own.
# shellcheck shell=bash disable=SC2154
node=cofferdam-node
address=192.0.2.1
registry=127.0.0.1:5000

# Of its own: cgroups, /etc, /var, /run, a link with the node's address.
enclose() {
  local hierarchies=() what dir
  mount --make-rshared /
  while read -r what dir; do hierarchies+=("$dir=$what"); done < <(awk '{
    for (i = 7; i <= NF && $i != "-"; i++);
    if ($(i+1) == "cgroup2") print "cgroup2", $5
    else if ($(i+1) == "cgroup") { n = split($(i+3), o, ","); c = ""
      for (j = 1; j <= n; j++) if (o[j] != "rw") c = c (c == "" ? "" : ",") o[j]
      print c, $5 } }' /proc/self/mountinfo)
  umount -R /sys/fs/cgroup
  # The machine's sysfs shows another network's links.
  mount -t sysfs sysfs /sys
  if [ "${hierarchies[*]}" = /sys/fs/cgroup=cgroup2 ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup
  else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for what in "${hierarchies[@]}"; do
      dir=${what%%=*} what=${what#*=}
      # Debian's crun refuses hybrid cgroups, unless it does not see the second kind.
      [ "$what/$RUNTIME" = cgroup2/containerd ] && continue
      mkdir "$dir"
      if [ "$what" = cgroup2 ]; then mount -t cgroup2 cgroup2 "$dir"; else mount -t cgroup -o "$what" cgroup "$dir"; fi
    done
  fi
  for dir in etc var; do
    mkdir -p "$folder/$dir/upper" "$folder/$dir/work"
    mount -t overlay -o "lowerdir=/$dir,upperdir=$folder/$dir/upper,workdir=$folder/$dir/work" overlay "/$dir"
  done
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/lock /etc/containerd /etc/cni/net.d /var/lib/kubelet
  rm -f /etc/cni/net.d/*
  hostname $node
  ip link set lo up
  ip link add node0 type veth peer name node1
  ip address add $address/24 dev node0
  ip link set node1 up
  ip link set node0 up
  ip route add default dev node0
  sysctl -qw net.ipv4.ip_forward=1
}

# The images: one layer of busybox, another of agnhost, whose names are upstream's; pushed by the registry's API.
blob() {
  local digest length at
  digest=sha256:$(sha256sum "$2" | cut -d' ' -f1) length=$(stat -c %s "$2")
  at=$(curl -fsSi -X POST "http://$registry/v2/$1/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" -o /dev/null "$at&digest=$digest"
  echo "\"size\": $length, \"digest\": \"$digest\""
}
# image NAME TAG CONFIG LAYER...: CONFIG is the JSON of what is run.
image() {
  local name=$1 tag=$2 config=$3 layer list= ids=
  shift 3
  for layer in "$@"; do
    list="$list${list:+, }{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar+gzip\", $(blob "$name" "$layer.gz")}"
    ids="$ids${ids:+, }\"sha256:$(sha256sum "$layer" | cut -d' ' -f1)\""
  done
  echo "{\"architecture\": \"$arch\", \"os\": \"linux\", \"config\": $config, \"rootfs\": {\"type\": \"layers\", \"diff_ids\": [$ids]}}" >"$images/config"
  echo "{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",
    \"config\": {\"mediaType\": \"application/vnd.oci.image.config.v1+json\", $(blob "$name" "$images/config")}, \"layers\": [$list]}" >"$images/manifest"
  curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary "@$images/manifest" -o /dev/null "http://$registry/v2/$name/manifests/$tag"
}
images() {
  local images=$folder/images busybox at arch=amd64 env='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
  [ "$(uname -m)" = x86_64 ] || arch=arm64
  for at in /usr/local/lib/cofferdam/busybox /usr/bin/busybox /bin/busybox; do [ -x $at ] && ! ldd $at >/dev/null 2>&1 && busybox=$at; done
  [ "${busybox:-}" ] || { echo "node.bash: there is no static busybox: run scripts/preflight.sh --install kubernetes" >&2; return 1; }
  mkdir -p "$images"/base/{bin,etc,root,tmp,usr/bin,var/run} "$images"/agnhost/uploads
  chmod 1777 "$images/base/tmp"
  cp "$busybox" "$images/base/bin/busybox"
  for at in $("$busybox" --list | grep -vx busybox); do ln -s busybox "$images/base/bin/$at"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser-defined-in-image:x:1000:1000::/root:/bin/sh\n' >"$images/base/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n' >"$images/base/etc/group"
  cp "$bin/agnhost" "$images/agnhost/agnhost"
  ln -s agnhost "$images/agnhost/agnhost-2"
  for at in base agnhost; do
    tar -C "$images/$at" --owner 0 --group 0 -cf "$images/$at.tar" .
    gzip -1k "$images/$at.tar"
  done
  image e2e-test-images/busybox 1.37.0-1 "{$env, \"Cmd\": [\"sh\"]}" "$images/base.tar"
  image e2e-test-images/agnhost 2.56 "{$env, \"Entrypoint\": [\"/agnhost\"], \"Cmd\": [\"pause\"]}" "$images/base.tar" "$images/agnhost.tar"
  image pause 3.10.1 "{$env, \"Entrypoint\": [\"sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep 2147483647 & wait; done\"]}" "$images/base.tar"
  rm -rf "$images"
}
registry() {
  mkdir "$folder/registry"
  echo "{version: 0.1, log: {level: warn}, storage: {filesystem: {rootdirectory: $folder/registry}, delete: {enabled: true}}, http: {addr: '$registry'}}" >"$folder/registry.yaml"
  run registry docker-registry serve "$folder/registry.yaml"
  ready registry 20 curl -fs "http://$registry/v2/"
  images
  # For upstream's tests: where their images are.
  echo "{promoterE2eRegistry: '$registry/e2e-test-images', gcRegistry: '$registry'}" >"$folder/images.yaml"
  export KUBE_TEST_REPO_LIST=$folder/images.yaml
}

# Handlers as users write them; Cofferdam reads the same file. (runtimes.test-handler is what
# upstream's tests look for in it.)
handlers() {
  local name program
  cat >/etc/containerd/config.toml <<END
version = 2
root = "$folder/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]

[plugins."io.containerd.internal.v1.opt"]
path = "$folder/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$registry/pause:3.10.1"
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
END
  # containerd 1.6 cannot drive a shim of today's gVisor (it does not speak its start-up protocol, and the shim
  # wants CAP_SYS_RESOURCE): runc stands in its place there, so that all but the enclosure can be compared.
  local handlers=(runc crun test-handler)
  for name in gvisor runsc; do
    if [ "$RUNTIME" = containerd ]; then handlers+=("$name"); continue; fi
    cat >>/etc/containerd/config.toml <<END

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$name]
runtime_type = "io.containerd.runsc.v1"
END
  done
  for name in "${handlers[@]}"; do
    case $name in crun) program=crun ;; *) program=runc ;; esac
    cat >>/etc/containerd/config.toml <<END

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$name]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$name.options]
BinaryName = "$(command -v "$program")"
END
  done
}
networks() {
  cat >/etc/cni/net.d/10-pods.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses", "ranges": [[{"subnet": "10.77.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
}

# As a service manager does: what dies is started again; it is told to end by $folder/runtime.end.
supervise() {
  while [ ! -e "$folder/runtime.end" ]; do
    "$@" &
    echo $! >"$folder/runtime.pid.new"
    mv "$folder/runtime.pid.new" "$folder/runtime.pid"
    wait $! || true
    sleep 0.2
  done
}
runtime() {
  handlers
  case $RUNTIME in
    containerd)
      networks
      export RUNTIME_ENDPOINT=unix:///run/containerd/containerd.sock
      supervise containerd --log-level info &
      ;;
    cofferdam)
      # Its own bridge; a CNI configuration would be taken in the place of it.
      [ "${CNI:-}" ] && networks
      export RUNTIME_ENDPOINT=unix:///run/cofferdam/cri.sock
      supervise "$COFFERDAM" cri --root "$folder/cofferdam" &
      ;;
  esac >"$folder/runtime.log" 2>&1 </dev/null
  pids+=($!)
  ready runtime 60 test -S "${RUNTIME_ENDPOINT#unix://}"
}

kubelet() {
  (cd "$folder" && sign kubelet "/O=system:nodes/CN=system:node:$node" "subjectAltName=IP:$address,DNS:$node") >>"$folder/openssl.log" 2>&1
  kubeconfig kubelet.kubeconfig "{client-certificate: kubelet.crt, client-key: kubelet.key}"
  echo "nameserver 192.0.2.53" >"$folder/resolv.conf"
  # The machine's disk and memory are none of the tests' business; a memory-poor machine has no swap to give up.
  cat >"$folder/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $folder/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $folder/kubelet.crt
tlsPrivateKeyFile: $folder/kubelet.key
containerRuntimeEndpoint: $RUNTIME_ENDPOINT
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
containerLogMaxSize: 1Mi
containerLogMaxFiles: 3
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $folder/resolv.conf
podLogsDir: $folder/pod-logs
# What changes is to be seen soon.
syncFrequency: 10s
fileCheckFrequency: 5s
nodeStatusUpdateFrequency: 4s
nodeStatusReportFrequency: 10s
volumeStatsAggPeriod: 10s
serializeImagePulls: false
registerNode: true
maxPods: 120
enableServer: true
cpuManagerPolicy: none
${KUBELET_CONFIG:-}
END
  run kubelet "$bin/kubelet" --config "$folder/kubelet.yaml" --kubeconfig "$folder/kubelet.kubeconfig" --root-dir "$folder/kubelet" \
    --hostname-override $node --node-ip $address --v "${KUBELET_V:-2}"
  ready kubelet 60 "$bin/kubectl" --kubeconfig "$folder/admin" wait --for condition=Ready "node/$node" --timeout 50s
}

# What `kubectl top` asks: upstream's metrics-server, which asks the kubelet. It is no pod here, as there is
# nobody who would make its service's address lead to it; the API server takes that of its endpoint.
metrics() {
  local at
  at=$(free_port)
  mkdir "$folder/metrics"
  run metrics-server "$bin/metrics-server" --kubeconfig "$folder/admin" --authentication-kubeconfig "$folder/admin" \
    --authorization-kubeconfig "$folder/admin" --cert-dir "$folder/metrics" --bind-address $address --secure-port "$at" \
    --kubelet-certificate-authority "$folder/ca.crt" --kubelet-preferred-address-types InternalIP --kubelet-use-node-status-port \
    --metric-resolution 10s --kubelet-request-timeout 5s
  "$bin/kubectl" --kubeconfig "$folder/admin" apply --filename - >/dev/null <<END
{apiVersion: v1, kind: Service, metadata: {name: metrics-server, namespace: kube-system}, spec: {ports: [{name: https, port: 443, targetPort: $at}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
endpoints: [{addresses: [$address], conditions: {ready: true}}]
ports: [{name: https, port: $at, protocol: TCP}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec: {group: metrics.k8s.io, version: v1beta1, groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true,
  service: {name: metrics-server, namespace: kube-system}}
END
  # As long as it cannot answer, no namespace goes.
  ready metrics-server 60 "$bin/kubectl" --kubeconfig "$folder/admin" wait --for condition=Available apiservice/v1beta1.metrics.k8s.io --timeout 50s
}
