#!/bin/sh
# Makes the release tarball in dist/: the source at HEAD, the modules that it
# needs (vendor/, with the data that our tests read of them) and the version.
# Distributions build it offline: packaging/debian, packaging/rpm.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C TZ=UTC
go=${GO:-go}
version=$(packaging/version.sh)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/cima-$version
mkdir -p "$top" dist
git archive HEAD | tar -x -C "$top"
echo "$version" >"$top/VERSION"
(cd "$top" && "$go" mod vendor)
for data in github.com/google/go-eventlog:testdata github.com/google/go-tdx-guest:testing/testdata; do
	module=${data%:*}
	dir=$("$go" list -m -f '{{.Dir}}' "$module")
	mkdir -p "$top/vendor/$module/${data#*:}"
	cp -r "$dir/${data#*:}/." "$top/vendor/$module/${data#*:}"
done
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	--mtime="@$epoch" -c "cima-$version" | gzip -9n >"dist/cima-$version.tar.gz"
echo "dist/cima-$version.tar.gz"
