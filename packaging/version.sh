#!/bin/sh
# Prints the version of packages. A tag is its version: v1.2.0 gives 1.2.0, and
# v1.3.0-rc1 gives 1.3.0~rc1, which sorts before 1.3.0. Three commits on it is
# 1.2.0+3.g1a2b3c4d5e6f, which sorts behind 1.2.0 and +2, and before +4 and 1.2.1;
# before the first tag, 0.0.0+3.g1a2b3c4d5e6f. What is not committed is ".dirty". In
# a release tarball, which has no history, the version is in the file VERSION.
set -eu
cd "$(dirname "$0")/.."
if [ -f VERSION ]; then
	cat VERSION
	exit
fi
# One length of hashes, whatever else a clone holds.
if tag=$(git describe --tags --long --abbrev=12 --match 'v[0-9]*' 2>/dev/null); then
	commit=${tag##*-} base=${tag%-*}
	since=${base##*-} base=${base%-*}
else
	base=v0.0.0 since=$(git rev-list --count HEAD) commit=g$(git rev-parse --short=12 HEAD)
fi
version=$(echo "${base#v}" | sed 's/-/~/g')
dirty=
# Nothing is written: by sudo the index would be root's afterwards.
git -c diff.autoRefreshIndex=false diff --quiet HEAD -- || dirty=.dirty
if [ "$since" != 0 ] || [ "$dirty" ]; then
	version=$version+$since.$commit$dirty
fi
case $version in
*[!0-9A-Za-z.+~]*) echo "version.sh: the tag $base gives the version $version, which must have letters, digits, . + and ~ alone" >&2 && exit 1 ;;
esac
echo "$version"
