#!/usr/bin/env bash
# Runs a command beside a real Kubernetes API server on loopback, and ends it afterwards. Everything
# it makes is in a folder under /tmp and goes with it.
#
#   scripts/kubernetes/start.sh [--scheduler] [--controllers] COMMAND...
#   scripts/kubernetes/node.sh COMMAND...            the same with a kubelet and a container runtime
#
# The command finds the programs in its PATH, KUBECONFIG (an administrator's), KUBERNETES_SERVER (the address) and KUBERNETES_FOLDER
# (certificates, logs, and the kubeconfigs admin, certificate, nobody, wrong-token and wrong-authority).
# Without node.sh, there is no kubelet: nodes are objects that someone creates. Nor, without --controllers, does anyone
# make service accounts.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/kubernetes/bin
programs=(etcd kube-apiserver kubectl) scheduler=no controllers=no with_node=no
while :; do
  case ${1:-} in
    --scheduler) scheduler=yes programs+=(kube-scheduler) ;;
    --controllers) controllers=yes programs+=(kube-controller-manager) ;;
    --node) scheduler=yes controllers=yes with_node=yes programs+=(kube-scheduler kube-controller-manager kubelet metrics-server agnhost) ;;
    -* | "") echo "usage: scripts/kubernetes/start.sh [--scheduler] [--controllers] COMMAND..." >&2; exit 2 ;;
    *) break ;;
  esac
  shift
done
for tool in openssl curl; do
  command -v $tool >/dev/null || { echo "start.sh: $tool is missing: install Debian's package $tool, then run this again" >&2; exit 1; }
done
# On a node node.sh has built, and made the folder; its network reaches nothing.
[ $with_node = yes ] || ./build.sh "${programs[@]}"
folder=${KUBERNETES_FOLDER:-$(mktemp -d /tmp/kubernetes.XXXXXX)}
pids=()
end() {
  local status=$? pid
  : >"$folder/runtime.end"
  # The last to come is the first to go; etcd outlives its client.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    pid=${pids[i]}
    kill "$pid" 2>/dev/null || true
    for _ in {1..50}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  # Its folder is node.sh's to remove, once its mounts are gone with the namespace.
  [ $with_node = no ] || exit $status
  if [ $status != 0 ] && [ "${KEEP_LOGS:-}" ]; then echo "start.sh: the logs are in $folder" >&2; else rm -rf "$folder"; fi
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

# Ports that nobody listens on now; below the range of outgoing connections, so none takes them before us.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
  done
  echo "start.sh: no free port between 20000 and 30000" >&2
  return 1
}
address=127.0.0.1
if [ $with_node = yes ]; then
  . ./node.bash
  enclose
fi
etcd_port=$(free_port) peer_port=$(free_port) port=$(free_port)
server=https://$address:$port

# run NAME PROGRAM ARGUMENT...: in the background, its log in the folder.
run() {
  local name=$1
  shift
  # Not a child of a terminal: an interrupt is ours to handle.
  setsid "$@" >"$folder/$name.log" 2>&1 </dev/null &
  pids+=($!)
}
# ready NAME SECONDS COMMAND...: waits until the command succeeds.
ready() {
  local name=$1 until=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $until ] || ! kill -0 "${pids[-1]}" 2>/dev/null; then
      tail -n 20 "$folder/$name.log" >&2
      echo "start.sh: $name did not come up" >&2
      exit 1
    fi
    sleep 0.2
  done
}

# One authority of our own; the server's certificate and one client's are signed by it.
sign() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile <(echo "$3") -out "$1.crt"
}
certificates() {
  cd "$folder"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=tests -keyout ca.key -out ca.crt
  sign server /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,IP:$address,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
  sign admin "/O=system:masters/CN=admin" "extendedKeyUsage=clientAuth"
  sign front-proxy /CN=front-proxy "extendedKeyUsage=clientAuth"
  openssl genrsa -out accounts.key 2048
  # A certificate of nobody whom the server knows, for the test of trust.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=others -keyout others.key -out others.crt
}
(certificates >"$folder/openssl.log" 2>&1) || { tail -n 5 "$folder/openssl.log" >&2; exit 1; }

# A user with every right, and one with none.
cat >"$folder/tokens.csv" <<EOF
admin-token,admin,admin,"system:masters"
nobody-token,nobody,nobody
EOF
# kubeconfig NAME USER: USER is YAML of one line.
kubeconfig() {
  cat >"$folder/$1" <<EOF
apiVersion: v1
kind: Config
current-context: tests
clusters: [{name: tests, cluster: {server: '$server', certificate-authority: ${3:-ca.crt}}}]
users: [{name: tests, user: $2}]
contexts: [{name: tests, context: {cluster: tests, user: tests}}]
EOF
}
kubeconfig admin '{token: admin-token}'
kubeconfig certificate '{client-certificate: admin.crt, client-key: admin.key}'
kubeconfig nobody '{token: nobody-token}'
kubeconfig wrong-token '{token: wrong}'
kubeconfig wrong-authority '{token: admin-token}' others.crt

run etcd "$bin/etcd" --data-dir "$folder/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
  --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
  --initial-cluster "default=http://127.0.0.1:$peer_port"
ready etcd 60 curl -fs "http://127.0.0.1:$etcd_port/health"

if [ $with_node = yes ]; then
  serving=(--bind-address 0.0.0.0 --advertise-address "$address" --authorization-mode "Node,RBAC" --enable-admission-plugins NodeRestriction
    --kubelet-client-certificate "$folder/admin.crt" --kubelet-client-key "$folder/admin.key" --kubelet-certificate-authority "$folder/ca.crt"
    --kubelet-preferred-address-types InternalIP
    --enable-aggregator-routing --requestheader-client-ca-file "$folder/ca.crt" --requestheader-allowed-names front-proxy
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group --requestheader-extra-headers-prefix X-Remote-Extra-
    --proxy-client-cert-file "$folder/front-proxy.crt" --proxy-client-key-file "$folder/front-proxy.key")
else
  # TaintNodesByCondition would taint new nodes, which no kubelet ever makes ready here.
  serving=(--bind-address 127.0.0.1 --advertise-address 127.0.0.1 --endpoint-reconciler-type none --authorization-mode RBAC
    --disable-admission-plugins TaintNodesByCondition)
fi
run kube-apiserver "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd_port" \
  --secure-port "$port" "${serving[@]}" \
  --tls-cert-file "$folder/server.crt" --tls-private-key-file "$folder/server.key" --client-ca-file "$folder/ca.crt" \
  --token-auth-file "$folder/tokens.csv" --service-cluster-ip-range 10.96.0.0/16 \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$folder/accounts.key" \
  --service-account-signing-key-file "$folder/accounts.key" --allow-privileged --v 0
ready kube-apiserver 180 curl -fs --cacert "$folder/ca.crt" -H "Authorization: Bearer admin-token" "$server/readyz"

if [ $with_node = yes ]; then
  run kube-scheduler "$bin/kube-scheduler" --kubeconfig "$folder/admin" --leader-elect=false --secure-port 0 --v 0
  run kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$folder/admin" --leader-elect=false --secure-port 0 \
    --service-account-private-key-file "$folder/accounts.key" --root-ca-file "$folder/ca.crt" \
    --cluster-signing-cert-file "$folder/ca.crt" --cluster-signing-key-file "$folder/ca.key"
  registry
  runtime
  kubelet
  metrics
elif [ $scheduler = yes ]; then
  # With --v 10 its log tells how each plugin scores each node.
  run kube-scheduler "$bin/kube-scheduler" --kubeconfig "$folder/admin" --leader-elect=false --secure-port 0 --v 10
fi
if [ $controllers/$with_node = yes/no ]; then
  # Those that look after nodes would see that none of ours has a kubelet.
  run kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$folder/admin" --leader-elect=false --secure-port 0 \
    --service-account-private-key-file "$folder/accounts.key" --controllers '*,-node-lifecycle-controller,-node-ipam-controller,-taint-eviction-controller'
fi

export PATH=$bin:$PATH KUBECONFIG=$folder/admin KUBERNETES_FOLDER=$folder KUBERNETES_SERVER=$server
cd "$root"
# In the background, so that a signal to us ends it, too; it keeps our input.
"$@" <&0 &
pids+=($!)
wait $!
