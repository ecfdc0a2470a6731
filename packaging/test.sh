#!/bin/sh
# Runs all Go tests and lists what was skipped. Under CI=true a skipped test is
# a failure.
set -eu
cd "$(dirname "$0")/.."
PATH=$("$GO" env GOROOT)/bin:$PATH # gotestsum runs go
log=$(mktemp)
trap 'rm -f "$log"' EXIT

race=-race
if ! command -v "${CC:-gcc}" >/dev/null 2>&1; then
	race=
	echo "test: no C compiler: without the race detector" >&2
	[ "${CI:-}" != true ] || exit 1
fi

# Tests build programs, too. With -trimpath here and CGO_ENABLED=0 there, those are compiled
# as `make build` has compiled them, and a cold cache is filled once. `make lint` vets all
# that is tested, so it is not vetted again here with -race.
export GOFLAGS="${GOFLAGS:-} -trimpath"
tools=$PWD/.cache/tools
CGO_ENABLED=0 GOBIN=$tools "$GO" install "$GOTESTSUM"

# gotestsum prints failures in full and lists every skipped test with its
# reason. No test is run again: a test that fails now and then is a test that
# fails.
"$tools/gotestsum" --format pkgname --jsonfile "$log" --packages=./... -- \
	$race -vet=off -timeout 30m "$@"

if grep -q '"Action":"skip".*"Test"' "$log"; then
	n=$(grep -c '"Action":"skip".*"Test"' "$log")
	echo "test: $n tests were skipped:" >&2
	grep '"Action":"output".*_test.go:[0-9]*: left out' "$log" |
		sed 's/.*"Test":"\([^"]*\)".*left out: \([^"]*\)\\n".*/  \1: \2/' >&2 || true
	if [ "${CI:-}" = true ]; then
		echo 'test: with CI=true no test may be skipped' >&2
		exit 1
	fi
fi
