#!/bin/sh
# Makes the man pages from Markdown in $1, and lints them where mandoc is there.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: build.sh DIR}
mkdir -p "$out"

# fit makes tables as wide as the line and no wider: the second column takes
# the others leave, and long cells become text blocks (tbl(1)).
# Text is not stretched to the margin.
fit() {
	awk -F '\t' -v OFS='\t' '
		/^\.TS/ { table = 1 }
		/^\.TE/ { table = rows = 0 }
		table && /^l l/ { sub(/^l l /, "l lx "); print; rows = /\.$/; next }
		table && rows && (!block || /^T}/) {
			for (i = 1; i <= NF; i++)
				if (length($i) > 30) $i = "T{\n" $i "\nT}"
			block = $NF == "T{"
		}
		{ print }
		/^\.TH/ { print ".ad l" }' "$1" >"$1.new" && mv "$1.new" "$1"
}

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
	fit "$made"
done
if command -v mandoc >/dev/null 2>&1; then
	# Line lengths are those of generated roff, which nobody reads.
	if mandoc -Tlint "$out"/*.[1-8] | grep -v 'STYLE: input text line longer'; then
		echo 'man: mandoc found the above' >&2
		exit 1
	fi
fi
