#!/bin/sh
# What isn't for a package manager of Linux, into dist/: the Python client's wheel, the
# Rust client's crate, and an image that holds cimactl alone (COPY --from=). Called by
# build.sh; VERSION, SOURCE_DATE_EPOCH and ARCH are set, and the programs built.
set -eu
cd "$(dirname "$0")/.."
dist=$PWD/dist

if command -v python3 >/dev/null; then
	(cd rpc/python && PYTHONPATH=build_backend python3 -B -c 'import sys, wheel_of_one; wheel_of_one.build_wheel(sys.argv[1])' "$dist")
else
	echo 'artefacts.sh: left out: the wheel, for there is no python3' >&2
fi

# cargo notes the commit that it finds, and no time.
if command -v cargo >/dev/null; then
	target=$dist/stage/cargo
	cargo fetch -q --locked --manifest-path rpc/rust/Cargo.toml
	cargo package -q --locked --offline --allow-dirty --no-verify --manifest-path rpc/rust/Cargo.toml --target-dir "$target"
	install -m 644 "$target"/package/cima-client-*.crate "$dist/"
else
	echo 'artefacts.sh: left out: the crate, for there is no cargo' >&2
fi

# A tag has no "+". The first platform is the one that docker load takes.
programs=$ARCH=bin/cimactl
[ "$ARCH" = arm64 ] || programs="$programs arm64=bin/cross/linux/arm64/cimactl"
packaging/licenses.sh cimactl >dist/stage/image-NOTICE
# shellcheck disable=SC2086 # one word for each platform
${GO:-go} run ./packaging/image -out "dist/cimactl-$VERSION.oci.tar" -name cima-project.github.io/cimactl \
	-tag "$(echo "$VERSION" | tr + -)" -notice dist/stage/image-NOTICE -epoch "$SOURCE_DATE_EPOCH" $programs
