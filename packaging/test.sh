#!/bin/sh
# Runs all Go tests and lists what was skipped. Under CI=true a skipped test is
# a failure.
set -eu
cd "$(dirname "$0")/.."
PATH=$("$GO" env GOROOT)/bin:$PATH # gotestsum runs go
logs=$(mktemp -d)
trap 'kill ${first:-} ${second:-} 2>/dev/null || true; rm -rf "$logs"' EXIT
trap 'exit 130' INT TERM

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

# The race detector makes tests several times slower, and finds nothing in a test that starts
# no goroutine. A package whose own code starts some or locks is tested under it as a whole;
# of another package, the tests in those files that do.
concurrent='^[[:space:]]*(defer )?go |"sync"|"sync/atomic"|\.Go\(|AfterFunc\('
raced='' plain='' some='' names=''
for dir in $("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
	package=.${dir#"$PWD"}
	files=$(grep -lE "$concurrent" "$dir"/*.go || true)
	case $package in ./daemon) continue ;; esac
	if [ -z "$race" ] || printf '%s\n' "$files" | grep -qv '_test\.go$' && [ -n "$files" ]; then
		raced="$raced $package"
		continue
	fi
	plain="$plain $package"
	for test in $([ -z "$files" ] || sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t .*/\1/p' $files); do
		some="$some $package" names="$names|$test"
	done
done
some=$(printf '%s\n' $some | sort -u)

# gotestsum prints failures in full and lists every skipped test with its
# reason. No test is run again: a test that fails now and then is a test that
# fails.
tests() {
	name=$1
	shift
	"$tools/gotestsum" --format pkgname --jsonfile "$logs/$name.json" -- -vet=off -timeout 30m "$@"
}

# Package daemon waits for engines most of the time: half of its tests run beside the other half.
tests daemon-1 $race "$@" -skip '^Test[H-Z]' ./daemon >"$logs/daemon-1" 2>&1 &
first=$!
tests daemon-2 $race "$@" -skip '^Test[^H-Z]|^[^T]' ./daemon >"$logs/daemon-2" 2>&1 &
second=$!
failed=''
tests raced $race "$@" $raced || failed=1
CGO_ENABLED=0 tests plain "$@" $plain || failed=1
[ -z "$some" ] || tests some $race "$@" -run "^(${names#|})\$" $some || failed=1
wait $first || failed=1
wait $second || failed=1
first='' second=''
cat "$logs/daemon-1" "$logs/daemon-2"

if grep -q '"Action":"skip".*"Test"' "$logs"/*.json; then
	n=$(cat "$logs"/*.json | grep -c '"Action":"skip".*"Test"')
	echo "test: $n tests were skipped:" >&2
	cat "$logs"/*.json | grep '"Action":"output".*_test.go:[0-9]*: left out' |
		sed 's/.*"Test":"\([^"]*\)".*left out: \([^"]*\)\\n".*/  \1: \2/' >&2 || true
	if [ "${CI:-}" = true ]; then
		echo 'test: with CI=true no test may be skipped' >&2
		exit 1
	fi
fi
[ -z "$failed" ] || exit 1
