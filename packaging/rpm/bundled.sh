#!/bin/sh
# Prints what a package bundles, as Fedora wants it in the spec: bundled.sh PROGRAM. The
# versions are those of go.mod; a commit between versions is VERSION~DATEgitCOMMIT.
set -eu
cd "$(dirname "$0")/../.."
awk -F '\t' -v p="${1:?usage: bundled.sh PROGRAM}" '$1 != "go" && index(" " $3 " ", " " p " ") { print $1 }' rpc/cimactl/licenses/modules.tsv | while read -r module; do
	version=$(awk -v m="$module" '$1 == m { print $2 }' go.mod | sed -e 's/^v//' -e 's/-0\.\([0-9]\{8\}\)[0-9]*-\([0-9a-f]\{7\}\)[0-9a-f]*$/~\1git\2/')
	[ -z "$version" ] || echo "Provides:       bundled(golang($module)) = $version"
done
