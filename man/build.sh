#!/bin/sh
# Makes the man pages from Markdown in $1, and lints them where mandoc is there.
set -eu
cd "$(dirname "$0")"
out=${1:?usage: build.sh DIR}
mkdir -p "$out"
for page in *.[1-8].md; do
	"${GO:-go}" run github.com/cpuguy83/go-md2man/v2@v2.0.7 -in "$page" -out "$out/${page%.md}"
	# Tables as wide as the line and no wider: the last column takes what is left.
	sed -i 's/^\(\(l \)*\)l \.$/\1lx ./' "$out/${page%.md}"
done
if command -v mandoc >/dev/null 2>&1; then
	# Line lengths are those of generated roff, which nobody reads.
	if mandoc -Tlint "$out"/*.[1-8] | grep -v 'STYLE: input text line longer'; then
		echo 'man: mandoc found the above' >&2
		exit 1
	fi
fi
