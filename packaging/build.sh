#!/bin/sh
# Makes deb and rpm packages, cimactl for other systems, the clients' wheel and crate, an
# image with cimactl, and their checksums, in dist/. With the argument debs, only cimad's,
# cimactl's and cimad-sim's debs. Two runs at one commit give equal bytes: SOURCE_DATE_EPOCH is
# the commit's time.
set -eu
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC
VERSION=$(packaging/version.sh)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
ARCH=$(${GO:-go} env GOARCH)
export VERSION SOURCE_DATE_EPOCH ARCH

# It takes minutes, of which Go says nothing.
begin=$(date +%s) part=0
step() { part=$((part + 1)) && printf 'packages: %d of 6, after %d s: %s\n' "$part" $(($(date +%s) - begin)) "$1" >&2; }

rm -rf dist/stage
mkdir -p dist/stage
rm -f dist/*.deb dist/*.rpm dist/*.whl dist/*.crate dist/cimactl-*.tar.gz dist/*.oci.tar dist/SHA256SUMS
step 'the programs'
make -s build VERSION="$VERSION"
step 'manual and completions'
GO=${GO:-go} man/build.sh "$PWD/.cache/man"
packaging/completions.sh "$PWD/.cache/completions"

gzip -9n <CHANGELOG.md >dist/stage/CHANGELOG.md.gz
cat >dist/stage/changelog.yaml <<EOF
- semver: $VERSION-1
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: The CIMA authors <maintainers@cima-project.github.io>
  deb: {urgency: medium, distributions: [unstable]}
  changes: [{note: "$VERSION; the file CHANGELOG.md says what changed"}]
EOF
cp packaging/debian/copyright LICENSE dist/stage/
for name in cimad cimactl cimad-sim; do
	DESTDIR=dist/stage/$name packaging/install.sh "$name"
	sed "s/^PACKAGE/$name/" packaging/lintian-overrides >"dist/stage/$name.overrides"
done
DESTDIR=dist/stage/python3-cima-client packaging/install.sh python
sed -n 's/^PACKAGE: initial/python3-cima-client: initial/p' packaging/lintian-overrides >dist/stage/python3-cima-client.overrides

# Nothing has its own name in dist/ before it is whole.
made=dist/made
rm -rf "$made"
mkdir "$made"

# package NAME FORMAT...: packs dist/stage/NAME, for $ARCH.
package() {
	find dist/stage -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	local name=$1 format
	shift
	for format; do
		${GO:-go} run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 package \
			--config "packaging/nfpm/$name.yaml" --packager "$format" --target "$made/" >/dev/null
		mv "$made"/* dist/
	done
}
step 'deb and rpm'
# First the debs that most wait for.
for name in cimad cimactl cimad-sim; do
	package "$name" deb
done
[ "${1:-}" != debs ] || exit 0
echo "packages: the debs are in dist/; more follows, which they don't need" >&2
for name in cimad cimactl cimad-sim; do
	package "$name" rpm
done
package cima-selinux rpm
# A deb alone: where an rpm puts modules depends on the distribution's Python.
package python3-cima-client deb

step "cimactl for the relying party's other machines"
make -s cross VERSION="$VERSION"
for platform in linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do
	os=${platform%/*} arch=${platform#*/}
	if [ "$os" = linux ]; then
		[ "$arch" != "$ARCH" ] || continue
		install -m 755 "bin/cross/$platform/cimactl" dist/stage/cimactl/usr/bin/cimactl
		ARCH=$arch package cimactl deb rpm
		continue
	fi
	name=cimactl-$VERSION-$os-$arch
	install -d "dist/stage/$name"
	install -m 644 LICENSE .cache/man/cimactl.1 .cache/man/cima-policy.5 .cache/man/cima-access.7 .cache/man/cima-evidence.7 .cache/man/cima-relying-party.7 .cache/man/cima-reference-values.7 .cache/man/cima-platforms.7 dist/stage/cimactl/usr/share/doc/cimactl/NOTICE "dist/stage/$name/"
	program=cimactl
	[ "$os" != windows ] || program=cimactl.exe
	install -m 755 "bin/cross/$platform/cimactl" "dist/stage/$name/$program"
	tar -C dist/stage --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c "$name" |
		gzip -9n >"$made/$name.tar.gz"
	mv "$made/$name.tar.gz" dist/
done
step 'wheel, crate and image'
packaging/artefacts.sh "$made"
mv "$made"/* dist/
rmdir "$made"
step 'checksums'
(cd dist && sha256sum -- $(ls -- *.deb *.rpm cimactl-*.tar.gz *.oci.tar *.whl *.crate 2>/dev/null) >SHA256SUMS && cat SHA256SUMS)
