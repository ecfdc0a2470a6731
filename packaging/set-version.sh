#!/bin/sh
# Writes a version where none can be computed: set-version.sh 1.2.0. The clients and the
# chart have the number of the latest release, and 0.0.0 before the first one, because they
# are read without a history. Packages have their version from version.sh.
set -eu
cd "$(dirname "$0")/.."
version=${1:-}
[ "$(printf %s "$version" | wc -l)" = 0 ] && printf %s "$version" | grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+(~[a-z]+[0-9]+)?$' ||
	{ echo "set-version.sh: the version \"$version\" must be like 1.2.0 or 1.3.0~rc1" >&2 && exit 1; }
semantic=$(printf %s "$version" | tr '~' -) # as Cargo and Helm write it
python=$(printf %s "$version" | tr -d '~')  # PEP 440

# edit FILE EXPRESSION: the file keeps its mode
edit() {
	sed "$2" "$1" >"$1.new"
	cat "$1.new" >"$1"
	rm "$1.new"
}
edit rpc/python/pyproject.toml "s/^version = \".*\"/version = \"$python\"/"
edit rpc/python/cima_client/__init__.py "s/^__version__ = \".*\"/__version__ = \"$python\"/"
edit rpc/rust/Cargo.toml "s/^version = \".*\"/version = \"$semantic\"/"
edit rpc/rust/Cargo.lock "/^name = \"cima-client\"/{n;s/^version = \".*\"/version = \"$semantic\"/;}"
edit rpc/rust/README.md "s/cima-client-[0-9][0-9]*\.[0-9a-z.-]*\(\.crate\|\"\)/cima-client-$semantic\1/"
edit packaging/kubernetes/chart/Chart.yaml "s/^version: .*/version: $semantic/; s/^appVersion: .*/appVersion: \"$semantic\"/"
