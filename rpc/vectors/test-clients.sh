#!/bin/sh
# Tests the Python and Rust clients and the vectors against bin/cimad-sim.
# It lists what this machine can't run; under CI=true that is a failure.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
export CIMA_SIM="${CIMA_SIM:-$root/bin/cimad-sim}"
cache=$root/.cache/clients
mkdir -p "$cache"
left=0
# What cimad-sim simulates: each client must have said of each that its test ran there.
platforms=$("$CIMA_SIM" td --help 2>&1 | sed -n 's/.*NAME of what is simulated: //p' | tr -d ',' | sed 's/(the default)//')
[ "$(echo "$platforms" | wc -w)" -ge 4 ] || { echo "test-clients: cimad-sim names too few platforms: $platforms" >&2; exit 1; }
# on_each CLIENT LOG FORM: the log has a line of the form, with each platform for NAME.
on_each() {
	for p in $platforms; do
		grep -qE "$(echo "$3" | sed "s/NAME/$(echo "$p" | tr - _)/")" "$2" || { cat "$2" >&2; say "$1: no test ran on the platform $p"; exit 1; }
	done
	say "$1: ran on" $platforms
}
say() { printf 'test-clients: %s\n' "$*" >&2; }
leave() { say "left out: $*"; left=1; }

if command -v python3 >/dev/null 2>&1; then
	say 'python: the wheel, without a network; two builds are equal'
	for dir in one two; do
		rm -rf "${cache:?}/$dir" && mkdir "$cache/$dir"
		(cd rpc/python && PYTHONPATH=build_backend PYTHONDONTWRITEBYTECODE=1 python3 -c "
import sys, wheel_of_one
wheel_of_one.build_wheel(sys.argv[1]); wheel_of_one.build_sdist(sys.argv[1])" "$cache/$dir")
	done
	diff -r "$cache/one" "$cache/two"

	say 'python: tests of the package as it is in the wheel'
	(cd rpc/python/tests && PYTHONPATH=$(ls "$cache"/one/*.whl) PYTHONDONTWRITEBYTECODE=1 python3 -W error::ResourceWarning -m unittest -v) >"$cache/python.log" 2>&1 || { cat "$cache/python.log" >&2; exit 1; }
	grep -E '^(Ran|OK)|skipped' "$cache/python.log" >&2
	on_each python "$cache/python.log" '^test_NAME \(test_platforms\.Platforms.*\.\.\. ok$'

	if python3.9 -c '' 2>/dev/null; then
		say 'python: the same with the oldest supported version'
		(cd rpc/python/tests && PYTHONPATH=$(ls "$cache"/one/*.whl) PYTHONDONTWRITEBYTECODE=1 python3.9 -m unittest)
	fi

	say 'python: attested TLS over pyOpenSSL, with cimactl at the other end'
	if [ -x "$cache/openssl/bin/python" ] || { python3 -m venv "$cache/openssl" && "$cache/openssl/bin/pip" install -q pyOpenSSL==26.4.0; }; then
		(cd rpc/python/tests && PYTHONPATH=$(ls "$cache"/one/*.whl) PYTHONDONTWRITEBYTECODE=1 "$cache/openssl/bin/python" -W error::ResourceWarning -m unittest test_atls)
	else
		rm -rf "$cache/openssl"
		leave 'attested TLS in Python: it needs python3-venv, and PyPI once'
	fi

	say 'python: mypy --strict'
	if [ -x "$cache/mypy/bin/mypy" ] || { python3 -m venv "$cache/mypy" && "$cache/mypy/bin/pip" install -q mypy==1.17.1; }; then
		(cd rpc/python && "$cache/mypy/bin/mypy" --cache-dir "$cache/mypy-cache" --python-version 3.9)
	else
		rm -rf "$cache/mypy"
		leave 'mypy: it needs python3-venv, and PyPI once'
	fi

	say 'a client that a public tool generates from rpc.discover'
	if [ -x "$cache/openrpc/bin/orpc" ] || { python3 -m venv "$cache/openrpc" && "$cache/openrpc/bin/pip" install -q openrpcclientgenerator==0.51.7 jsonrpc2-pyclient==5.2.3; }; then
		(cd rpc/python/tests && PYTHONDONTWRITEBYTECODE=1 python3 -c "
import subprocess, sys, stage
s = stage.Simulator()
try:
    subprocess.run([sys.argv[1], sys.argv[2], s.socket], check=True)
finally:
    s.close()" "$cache/openrpc/bin/python" "$root/rpc/vectors/generated.py")
	else
		rm -rf "$cache/openrpc"
		leave 'the generated client: it needs python3-venv and Python 3.11, and PyPI once'
	fi
else
	leave 'python: no python3'
fi

if command -v cargo >/dev/null 2>&1; then
	say 'rust: fmt, clippy, tests, doc'
	export CARGO_TARGET_DIR="$cache/rust"
	cargo() { command cargo "$@" --manifest-path rpc/rust/Cargo.toml; }
	cargo fetch --locked -q # then nothing needs the network
	cargo fmt --check
	for features in '' tokio compat rustls tokio,compat,ring; do
		command cargo clippy -q --locked --offline --all-targets --features "$features" --manifest-path rpc/rust/Cargo.toml -- -D warnings
		RUSTDOCFLAGS='-D warnings' cargo doc -q --locked --offline --no-deps --features "$features"
	done
	cargo test --locked --offline --features tokio,compat,ring >"$cache/rust.log" 2>&1 || { cat "$cache/rust.log" >&2; exit 1; }
	grep -E '^test result' "$cache/rust.log" >&2
	on_each rust "$cache/rust.log" '^test NAME \.\.\. ok$'
	say 'rust: the crate, packed and built from that, without a network'
	cargo package -q --locked --offline --allow-dirty
else
	leave 'rust: no cargo'
fi

say 'the vectors, the independent check, and each client in containers'
"${GO:-go}" test -count=1 -v ./rpc/vectors -args -sim "$CIMA_SIM" >"$cache/vectors.log" 2>&1 || { grep -E '^(---|    ---|panic|FAIL|ok|\s+\S+_test.go)' "$cache/vectors.log"; exit 1; }
grep -E '^ *--- (SKIP|PASS: Test(Clients|Container|EveryCall)[^/]*/)|left out' "$cache/vectors.log" >&2 || true
if grep -q -- '--- SKIP' "$cache/vectors.log"; then
	left=1
fi

if [ $left = 1 ] && [ "${CI:-}" = true ]; then
	say 'with CI=true nothing may be left out'
	exit 1
fi
