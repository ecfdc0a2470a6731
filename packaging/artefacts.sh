#!/bin/sh
# What isn't for a package manager of Linux, into dist/: the Python client's wheel, the
# Rust client's crate, an image that holds cimactl alone (COPY --from=), and one with the
# device plug-in for Kubernetes. Called by build.sh: VERSION, SOURCE_DATE_EPOCH and ARCH
# are set, and the programs built. They come into the directory that is the argument.
set -eu
cd "$(dirname "$0")/.."
dist=$PWD/dist made=$PWD/$1

if command -v python3 >/dev/null; then
	(cd rpc/python && PYTHONPATH=build_backend python3 -B -c 'import sys, wheel_of_one; wheel_of_one.build_wheel(sys.argv[1])' "$made")
else
	echo 'artefacts.sh: left out: the wheel, for there is no python3' >&2
fi

# cargo notes the commit that it finds, and no time.
if command -v cargo >/dev/null; then
	target=$dist/stage/cargo
	cargo fetch -q --locked --manifest-path rpc/rust/Cargo.toml
	cargo package -q --locked --offline --allow-dirty --no-verify --manifest-path rpc/rust/Cargo.toml --target-dir "$target"
	install -m 644 "$target"/package/cima-client-*.crate "$made/"
else
	echo 'artefacts.sh: left out: the crate, for there is no cargo' >&2
fi

# image NAME NOTICE ARCH=PROGRAM…: an archive for these platforms, of which docker load
# takes the first. A tag has no "+" and no "~".
image() {
	local name=$1 notice=$2
	shift 2
	${GO:-go} run ./packaging/image -out "$made/$name-$VERSION.oci.tar" -name "cima-project.github.io/$name" \
		-tag "$(echo "$VERSION" | tr '+~' --)" -notice "$notice" -epoch "$SOURCE_DATE_EPOCH" "$@"
}

packaging/licenses.sh cimactl >dist/stage/cimactl-NOTICE
if [ "$ARCH" = arm64 ]; then
	image cimactl dist/stage/cimactl-NOTICE arm64=bin/cimactl
else
	image cimactl dist/stage/cimactl-NOTICE "$ARCH=bin/cimactl" arm64=bin/cross/linux/arm64/cimactl
fi

# The plug-in's module has gRPC, which is fetched; so distributions don't build it.
plugin=packaging/kubernetes/plugin
for arch in amd64 arm64; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOFLAGS=-mod=mod ${GO:-go} build -C $plugin -trimpath -buildvcs=false -ldflags '-s -w' -o "$dist/stage/plugin-$arch" .
done
{
	cat LICENSE
	${GO:-go} list -C $plugin -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' . | sort -u |
		while read -r module dir; do
			[ "$module" != github.com/cima-project/cima ] || continue
			for text in "$dir"/LICENSE* "$dir"/NOTICE* "$dir"/PATENTS*; do
				[ ! -f "$text" ] || { printf '\n==== %s: %s\n' "$module" "${text##*/}" && cat "$text"; }
			done
		done
} >dist/stage/plugin-NOTICE
image cima-device-plugin dist/stage/plugin-NOTICE amd64="$dist/stage/plugin-amd64" arm64="$dist/stage/plugin-arm64"
