#!/bin/sh
# Prints the version of packages, from the tag and with the commit: v1.2.0 gives
# 1.2.0+0.g1a2b3c4 and, three commits on, 1.2.0+3.g1a2b3c4. In a release tarball,
# which has no history, it is in the file VERSION.
set -eu
cd "$(dirname "$0")/.."
if [ -f VERSION ]; then
	cat VERSION
elif tag=$(git describe --tags --long --match 'v[0-9]*' 2>/dev/null); then
	echo "$tag" | sed 's/^v//; s/-\([0-9]*\)-\(g[0-9a-f]*\)$/+\1.\2/; s/-/~/g'
else
	echo "0+$(git rev-list --count HEAD).g$(git rev-parse --short HEAD)"
fi
