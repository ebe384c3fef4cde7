#!/bin/sh
# A CI job whose steps are not trusted: every step runs in a sandbox of its own over the same checkout, side by side, and none of them
# can change the checkout, read its secrets or reach the network. Ends with 1 when a step failed, after all of them have ended.
#
#   examples/ci-job/job.sh DIR 'npm test' 'npm run lint' ...
#
# The server is the one over this machine's data directory; CORRAL and CORRAL_DATA name another launcher and another directory.

set -u
corral=${CORRAL:-./corral}
dir=$1
shift
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

step() {
  sb=$("$corral" create ${CORRAL_DATA:+--data "$CORRAL_DATA"} --dir "$dir" --policy read-only --timeout 15m --label "job=$$") || return
  "$corral" exec "$sb" ${CORRAL_DATA:+--data "$CORRAL_DATA"} --timeout 10m -- sh -c "$1"
  code=$?
  "$corral" rm "$sb" ${CORRAL_DATA:+--data "$CORRAL_DATA"} 2>/dev/null
  return $code
}

count=0
for command in "$@"; do
  count=$((count + 1))
  { step "$command" >"$logs/$count" 2>&1; echo $? >"$logs/$count.code"; } &
done
wait

failed=0
count=0
for command in "$@"; do
  count=$((count + 1))
  code=$(cat "$logs/$count.code")
  if [ "$code" = 0 ]; then
    printf 'passed  %s\n' "$command"
  else
    failed=1
    printf 'FAILED (%s)  %s\n' "$code" "$command"
    sed 's/^/    /' "$logs/$count"
  fi
done
exit $failed
