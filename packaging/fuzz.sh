#!/bin/sh
# Runs every fuzz target of the module for $FUZZTIME, one after the other.
# Go before 1.27 ends a target now and then with "context deadline exceeded" and nothing else when
# the time is up (go.dev/issue/75804). That alone is no finding: a finding writes its input, and
# the seeds were all run before.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# Reads what go test printed: was the end of the time all that went wrong?
timeup() {
	grep -v -e '^fuzz: ' -e '^FAIL' -e '^exit status 1$' "$1" | tr -d '\n' |
		grep -Eq '^--- FAIL: Fuzz[A-Za-z0-9_]* \([0-9.]*s\) *context deadline exceeded$'
}

targets=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
for dir in $targets; do
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		echo "fuzz: $dir $target for $FUZZTIME"
		if "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 10x -parallel 2 "$dir" >"$out" 2>&1; then
			tail -n 3 "$out"
		elif timeup "$out"; then
			tail -n 6 "$out"
			echo "fuzz: the time was up while a worker ran: no finding"
		else
			cat "$out"
			exit 1
		fi
	done
done
