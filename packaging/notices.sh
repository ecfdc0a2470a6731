#!/bin/sh
# Prints the NOTICE files of the modules that a program is linked from, which go
# where the program goes (Apache-2.0, section 4 d): notices.sh PACKAGE
set -eu
cd "$(dirname "$0")/.."
"${GO:-go}" list -deps -f '{{with .Module}}{{.Path}} {{.Dir}}{{end}}' "$1" | sort -u | while read -r path dir; do
	[ ! -d vendor ] || dir=vendor/$path
	[ ! -f "$dir/NOTICE" ] || { echo "$path:" && cat "$dir/NOTICE"; }
done
