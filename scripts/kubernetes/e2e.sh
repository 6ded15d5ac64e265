#!/usr/bin/env bash
# Runs upstream's end-to-end tests of what a runtime does on the node that node.sh brings up, and
# prints each with its result.
#
#   scripts/kubernetes/node.sh scripts/kubernetes/e2e.sh [FOCUS]     a regular expression; by default
#                                                                    all of [sig-node] RuntimeClass and
#                                                                    the scheduler's of pod overhead
set -euo pipefail
focus=${1:-'\[sig-node\] RuntimeClass|verify pod overhead is accounted for'}
report=$KUBERNETES_FOLDER/e2e
mkdir -p "$report"
# Its client looks for certificates from where it is.
cd "$KUBERNETES_FOLDER"
status=0
# As upstream runs it, but all in one process: [Serial] tests are among them.
e2e.test --kubeconfig "$KUBECONFIG" --provider skeleton --num-nodes 1 --report-dir "$report" --disable-log-dump \
  --container-runtime-endpoint "$RUNTIME_ENDPOINT" --ginkgo.focus "$focus" --ginkgo.no-color --ginkgo.timeout 60m \
  --allowed-not-ready-nodes 0 --delete-namespace-on-failure=true >"$KUBERNETES_FOLDER/e2e.log" 2>&1 || status=$?
# One line a test that ran: its name and its result.
results=$(grep -o '<testcase name="[^"]*" classname="[^"]*" status="[a-z]*"' "$report"/junit*.xml | grep '\[It\]' |
  sed -E 's/.*<testcase name="\[It\] ([^"]*)".* status="([a-z]*)"/\2 \1/; s/&#34;|&quot;/"/g; s/&#39;/'"'"'/g' | grep -v '^skipped' || true)
sed -E 's/^passed (.*)/e2e \1 ... ok/; s/^(failed|timedout|panicked|interrupted) (.*)/e2e \2 ... FAILED/' <<<"$results"
passed=$(grep -c '^passed' <<<"$results" || true) failed=$(grep -vc '^passed' <<<"$results" || true)
[ "$results" ] || failed=0
# Those that looked at the machine, and found it without what they need.
missing=$(sed -n 's/^.*\[SKIPPED\] \(.*\)/\1/p; s/^ *\(Skipping test as.*\)/\1/p' "$KUBERNETES_FOLDER/e2e.log" | sort -u)
[ -z "$missing" ] || printf 'skipped by themselves:\n%s\n' "$missing"
echo "e2e: $passed passed, $failed failed"
if [ "$failed" != 0 ] || [ "$passed" = 0 ]; then
  grep -E '\[FAILED\]' "$KUBERNETES_FOLDER/e2e.log" | sort -u | head -n 40 >&2 || true
  [ "$passed" != 0 ] || tail -n 20 "$KUBERNETES_FOLDER/e2e.log" >&2
  exit 1
fi
exit $status
