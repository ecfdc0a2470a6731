#!/bin/sh
# Makes the man pages from Markdown in $1, and lints them where mandoc is there.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: build.sh DIR}
mkdir -p "$out"

# md2man: the machine's own where MD2MAN names it, as distributions do; ours, for this
# machine also where programs are built for another one, else.
md2man() {
	if [ "${MD2MAN:-}" ]; then
		"$MD2MAN" "$@"
	else
		GOOS='' GOARCH='' "${GO:-go}" run github.com/cpuguy83/go-md2man/v2@v2.0.7 "$@"
	fi
}

for page in man/*.[1-8].md; do
	made=$out/$(basename "$page" .md)
	md2man -in "$page" -out "$made"
	GOOS='' GOARCH='' "${GO:-go}" run ./man/fit <"$made" >"$made.new" && mv "$made.new" "$made"
done
# Another version may write roff that mandoc likes less, and is not ours to mend.
if [ -z "${MD2MAN:-}" ] && command -v mandoc >/dev/null 2>&1; then
	# Line lengths are those of generated roff, which nobody reads.
	if mandoc -Tlint "$out"/*.[1-8] | grep -v 'STYLE: input text line longer'; then
		echo 'man: mandoc found the above' >&2
		exit 1
	fi
fi
