#!/bin/sh
# Prints the licences of what is linked into a program, with their whole texts,
# as `cimactl licenses` does: licenses.sh PROGRAM. It runs no program that was
# built, so that it works for another machine's. With --expression it prints
# the SPDX expression of all of them.
set -eu
cd "$(dirname "$0")/../rpc/cimactl/licenses"
export LC_ALL=C
program=${1:?usage: licenses.sh PROGRAM [--expression]}
tab=$(printf '\t')
if [ "${2:-}" = --expression ]; then
	awk -F '\t' -v p="$program" 'index(" " $3 " ", " " p " ") { gsub(/ AND /, "\n", $2); print $2 }' modules.tsv |
		sort -u | sed -e ':a' -e N -e '$!ba' -e 's/\n/ AND /g'
	exit
fi
found=
while IFS=$tab read -r module license programs copyright; do
	case " $programs " in *" $program "*) ;; *) continue ;; esac
	found=1
	printf '==== %s: %s, in %s\nCopyright %s\n' "$module" "$license" "$(echo "$programs" | sed 's/ /, /g')" "$copyright"
	for file in "texts/$module"/*; do
		[ -f "$file" ] || continue
		printf '%s %s\n' ---- "${file##*/}"
		printf '%s\n' "$(cat "$file")"
	done
done <modules.tsv
[ -n "$found" ] || { echo "licenses.sh: no module is linked into $program" >&2; exit 2; }
