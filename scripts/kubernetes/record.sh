#!/usr/bin/env bash
# Asks a real API server and a real scheduler what they say to the cases of crates/decide/tests/data,
# and writes it down beside each, as the expectation of our own tests. With --check it compares.
#
#   scripts/kubernetes/start.sh --scheduler scripts/kubernetes/record.sh [--check] [CASE...]
#
# A case is a YAML file, CASE its path below the data folder without the ending; all where none is named.
#
# admission/GROUP/NAME.yaml: the last document is asked about, those before it are there already. A
#   comment says what is asked: "# update" (of the document before) instead of a create, "# update
#   unversioned" one without a resource version, "# update resize" one of a pod's resources in place, "# without service account" a namespace without one.
# admission/GROUP/NAME.txt: code and reason, the warnings, then the message's first line; of a pod that
#   is let in, what admission may have changed.
# failed_scheduling/NAME.yaml: nodes, pods and what they need; the last document is the pod that is asked about.
# failed_scheduling/NAME.txt: the event's message, the same as the condition's.
# scored/NAME.yaml: the same of a pod that several nodes could take.
# scored/NAME.txt: "NODE PLUGIN SCORE" as the scheduler counted it, times the plugin's weight; "NODE = SUM";
#   where one node has the greatest sum, "-> NODE".
set -euo pipefail
trap 'exit 130' INT TERM
[ -n "${KUBERNETES_SERVER:-}" ] || { echo "record.sh: no API server is there: run this by scripts/kubernetes/start.sh" >&2; exit 2; }
command -v jq >/dev/null || { echo "record.sh: jq is missing: install Debian's package jq, then run this again" >&2; exit 1; }
data=$(cd "$(dirname "$0")/../.." && pwd)/crates/decide/tests/data
check=no
[ "${1:-}" = --check ] && { check=yes; shift; }
scratch=$KUBERNETES_FOLDER/record
mkdir -p "$scratch"
wrong=0 count=0

# api METHOD PATH [FILE]: the answer's body; its code and warnings are in $scratch.
api() {
  local method=$1 path=$2
  shift 2
  [ $# = 0 ] || set -- --data-binary "@$1" -H 'Content-Type: application/yaml'
  curl -s --cacert "$KUBERNETES_FOLDER/ca.crt" -H 'Authorization: Bearer admin-token' -X "$method" \
    -D "$scratch/head" "$@" "$KUBERNETES_SERVER$path"
}
# must METHOD PATH FILE: the same, of what is only there for another's sake.
must() {
  api "$@" >"$scratch/must"
  grep -q '^HTTP/[0-9.]* 20' "$scratch/head" || { echo "record.sh: $case: $(jq -r .message "$scratch/must")" >&2; exit 1; }
}
# The path of a document's kind, in the case's namespace.
path_of() {
  local version kind
  version=$(sed -n 's/^apiVersion: //p' "$1") kind=$(sed -n 's/^kind: //p' "$1")
  case $kind in
    Pod) echo "/api/v1/namespaces/$namespace/pods" ;;
    LimitRange) echo "/api/v1/namespaces/$namespace/limitranges" ;;
    ResourceQuota) echo "/api/v1/namespaces/$namespace/resourcequotas" ;;
    ConfigMap) echo "/api/v1/namespaces/$namespace/configmaps" ;;
    Node) echo /api/v1/nodes ;;
    Namespace) echo /api/v1/namespaces ;;
    RuntimeClass) echo "/apis/$version/runtimeclasses" ;;
    PriorityClass) echo "/apis/$version/priorityclasses" ;;
    *) echo "record.sh: $case: no way is known to create a $kind" >&2; exit 1 ;;
  esac
}
name_of() { sed -nE 's/^metadata: \{name: ([^,}]*).*/\1/p; s/^  name: (.*)/\1/p' "$1" | head -n 1; }

# Splits a case into $scratch/doc.1 … doc.$documents.
split() {
  rm -f "$scratch"/doc.*
  awk -v out="$scratch/doc." 'BEGIN { n = 1 } /^---$/ { n++; next } { print > (out n) } END { print n }' "$1" >"$scratch/count"
  documents=$(cat "$scratch/count")
}

new_namespace() {
  namespace=case-$$-$count
  echo "{apiVersion: v1, kind: Namespace, metadata: {name: $namespace}}" >"$scratch/namespace"
  must POST /api/v1/namespaces "$scratch/namespace"
  grep -q '^# without service account' "$1" && return
  echo '{apiVersion: v1, kind: ServiceAccount, metadata: {name: default}}' >"$scratch/account"
  must POST "/api/v1/namespaces/$namespace/serviceaccounts" "$scratch/account"
}

# Creates the documents before the last.
prepare() {
  local at doc
  for ((at = 1; at < documents; at++)); do
    doc=$scratch/doc.$at
    must POST "$(path_of "$doc")" "$doc"
    if grep -q '^kind: ResourceQuota' "$doc" && grep -q '^status:' "$doc"; then
      must PUT "$(path_of "$doc")/$(name_of "$doc")/status" "$doc"
      # The plugin that asks has what it knows from a watch.
      sleep 0.3
    fi
  done
}

admission() {
  local doc path verb=POST name version subresource=
  new_namespace "$1"
  split "$1"
  prepare
  # Admission reads classes, ranges and quotas from a cache.
  [ "$documents" = 1 ] || sleep 0.2
  doc=$scratch/doc.$documents
  path=$(path_of "$doc")
  if grep -q '^# update' "$1"; then
    verb=PUT name=$(name_of "$doc")
    path=$path/$name
    if grep -q '^# update resize' "$1"; then subresource=/resize; fi
    if ! grep -q '^# update unversioned' "$1"; then
      version=$(api GET "$path" | jq -r .metadata.resourceVersion)
      sed -i "s/^metadata: {name: $name/&, resourceVersion: \"$version\"/" "$doc"
    fi
  fi
  api $verb "$path$subresource?dryRun=All&fieldValidation=Strict" "$doc" >"$scratch/answer"
  verdict "$doc"
  api DELETE /apis/node.k8s.io/v1/runtimeclasses >/dev/null
}

# What the server said, and of a pod that it let in, what admission may have changed.
verdict() {
  local code
  code=$(sed -nE '1s/^HTTP\/[0-9.]+ ([0-9]+).*/\1/p' "$scratch/head")
  local warnings
  # Sorted: the server goes through a map, in no order.
  warnings=$(tr -d '\r' <"$scratch/head" | sed -nE 's/^[Ww]arning: 299 - "(.*)"$/warning: \1/p' | sed 's/\\"/"/g' | sort)
  if [ "${code:0:1}" = 2 ]; then
    echo "$code"
    [ -z "$warnings" ] || echo "$warnings"
    grep -q '^kind: Pod' "$1" || return 0
    jq -c '.spec | {
      runtimeClassName, overhead, nodeSelector, tolerations, priority, priorityClassName, resources,
      initContainers: [.initContainers[]? | {name, resources}],
      containers: [.containers[] | {name, resources}]
    } | del(..|nulls) | if .initContainers == [] then del(.initContainers) else . end' "$scratch/answer"
  else
    echo "$code $(jq -r '.reason // "without a reason"' "$scratch/answer")"
    [ -z "$warnings" ] || echo "$warnings"
    # The case's namespace is ours; the text after the first line is a diff, never twice the same.
    jq -r .message "$scratch/answer" | head -n 1 | sed "s/\\b$namespace\\b/NAMESPACE/g"
  fi
}

# Nothing may be left of the case before: the scheduler must have seen it go.
clean() {
  kubectl delete pods --all --all-namespaces --force --grace-period 0 >/dev/null 2>&1
  kubectl delete nodes,runtimeclasses --all >/dev/null 2>&1
  kubectl get priorityclasses -o name | { grep -v /system- || true; } | xargs -r kubectl delete >/dev/null 2>&1
  sleep 0.5
}

# ask FILE: creates what a case of the scheduler has, and last the pod that is asked about.
ask() {
  clean
  new_namespace "$1"
  split "$1"
  prepare
  sleep 1
  must POST "$(path_of "$scratch/doc.$documents")" "$scratch/doc.$documents"
}

failed_scheduling() {
  local event condition until=$((SECONDS + 30)) pods
  ask "$1"
  pods=/api/v1/namespaces/$namespace
  while :; do
    [ $SECONDS -lt $until ] || { echo "record.sh: $case: the scheduler says nothing" >&2; exit 1; }
    sleep 0.3
    event=$(api GET "$pods/events?fieldSelector=involvedObject.name%3Dp" | jq -r '[.items[] | select(.reason == "FailedScheduling" or .reason == "Scheduled")][0].message // empty')
    condition=$(api GET "$pods/pods/p" | jq -r '.status.conditions[]? | select(.type == "PodScheduled") | .message // "scheduled"')
    [ -z "$event" ] || break
    # A pod that waits for its gates has no event.
    if [[ $condition == "Scheduling is blocked"* ]]; then event=$condition; fi
    [ -z "$event" ] || break
  done
  [ "$event" = "$condition" ] || { echo "record.sh: $case: the event says $event, the condition $condition" >&2; wrong=1; }
  echo "$event" | sed "s/\\b$namespace\\b/NAMESPACE/g"
}

scored() {
  local until=$((SECONDS + 30)) node="" best
  ask "$1"
  while [ -z "$node" ]; do
    [ $SECONDS -lt $until ] || { echo "record.sh: $case: the pod gets no node" >&2; exit 1; }
    sleep 0.3
    node=$(api GET "/api/v1/namespaces/$namespace/pods/p" | jq -r '.spec.nodeName // empty')
  done
  sed -nE "s|.*\"Plugin scored node for pod\" pod=\"$namespace/p\" plugin=\"([A-Za-z]+)\" node=\"([^\"]+)\" score=(.*)|\2 \1 \3|p
    s|.*final score for pod\" pod=\"$namespace/p\" node=\"([^\"]+)\" score=(.*)|\1 = \2|p" "$KUBERNETES_FOLDER/kube-scheduler.log" |
    sort >"$scratch/scores"
  cat "$scratch/scores"
  # Of equals one is drawn by lot.
  best=$(awk '$2 == "=" { if ($3 > most || !n) { most = $3; n = 1; who = $1 } else if ($3 == most) n++ } END { if (n == 1) print who }' "$scratch/scores")
  if [ -n "$best" ]; then
    echo "-> $best"
    [ "$node" = "$best" ] || { echo "record.sh: $case: $best has the best score, and the pod went to $node" >&2; exit 1; }
  fi
}

# The parts of an answer, sorted: where upstream goes through a map, several errors come in any order.
# The order that was written down first stays.
parts() { sed 's/, /\n/g; s/[][]/\n/g' "$1" | sort; }

# one CASE-FILE: records or compares it.
one() {
  local file=$1 into=${1%.yaml}.txt
  case=${file#"$data"/} count=$((count + 1))
  # One that fails does not keep the others from being asked.
  if ! ("${case%%/*}" "$file") >"$scratch/said"; then wrong=1
  elif [ -e "$into" ] && cmp -s <(parts "$into") <(parts "$scratch/said"); then return
  elif [ $check = no ]; then cp "$scratch/said" "$into"
  elif ! diff -u "$into" "$scratch/said"; then wrong=1; fi
}

if [ $# -gt 0 ]; then for name; do one "$data/$name.yaml"; done
else
  while IFS= read -r file; do one "$file"; done < <(find "$data/admission" "$data/failed_scheduling" "$data/scored" -name '*.yaml' 2>/dev/null | sort)
fi
verb=recorded
[ $check = no ] || verb=compared
echo "$count cases $verb"
exit $wrong
