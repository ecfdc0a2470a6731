#!/bin/sh
# Runs every fuzz target of the module for $FUZZTIME, one after the other.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT

targets=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
for dir in $targets; do
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		echo "fuzz: $dir $target for $FUZZTIME"
		if "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 10x -parallel 2 "$dir" >"$out" 2>&1; then
			tail -n 3 "$out"
		else
			cat "$out"
			exit 1
		fi
	done
done
