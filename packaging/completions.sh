#!/bin/sh
# Makes the shells' completions of cimactl in $1, by a cimactl for this machine: the
# programs that are packaged may be for another one.
set -eu
cd "$(dirname "$0")/.."
out=${1:?usage: completions.sh DIR}
mkdir -p "$out"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
GOOS='' GOARCH='' CGO_ENABLED=0 "${GO:-go}" build -trimpath -buildvcs=false -o "$made/cimactl" ./rpc/cimactl
"$made/cimactl" completion bash >"$out/cimactl"
"$made/cimactl" completion zsh >"$out/_cimactl"
"$made/cimactl" completion fish >"$out/cimactl.fish"
