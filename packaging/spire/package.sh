#!/bin/sh
# Makes the packages cima-spire, deb and rpm, in dist/. They are upstream's alone: SPIRE's
# SDK and gRPC are fetched, as distributions' builders don't. Run it behind `make packages`
# for a release: it leaves their files in place.
set -eu
cd "$(dirname "$0")/../.."
umask 022
export LC_ALL=C TZ=UTC
VERSION=$(packaging/version.sh)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
ARCH=$(${GO:-go} env GOARCH)
stage=dist/stage/cima-spire
rm -rf "$stage"
mkdir -p "$stage/usr/libexec/cima" "$stage/usr/share/man/man7"

CGO_ENABLED=0 ${GO:-go} build -C packaging/spire -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o "$PWD/$stage/usr/libexec/cima/cima-spire" .
GO=${GO:-go} man/build.sh "$PWD/.cache/man"
gzip -9n <.cache/man/cima-spire.7 >"$stage/usr/share/man/man7/cima-spire.7.gz"

# What is linked, each with its texts. A licence that isn't known here, and so isn't in
# packaging/nfpm/cima-spire.yaml, stops the build.
licenses='Apache-2.0 BSD-3-Clause MIT MPL-2.0'
${GO:-go} list -C packaging/spire -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' . | sort -u >"$stage/modules"
{
	cat LICENSE
	while read -r module version dir; do
		[ "$module" != github.com/cima-project/cima ] || continue
		found= license=
		for text in "$dir"/LICENSE* "$dir"/COPYING* "$dir"/NOTICE* "$dir"/PATENTS*; do
			[ -f "$text" ] || continue
			found=1
			case $(tr -s ' \n' ' ' <"$text" | head -c 2000) in
			*'Mozilla Public License, version 2.0'* | *'Mozilla Public License Version 2.0'*) license=MPL-2.0 ;;
			*'Apache License'*) license=Apache-2.0 ;;
			*'Redistribution and use in source and binary forms'*) license=BSD-3-Clause ;;
			*'Permission is hereby granted, free of charge'*) license=MIT ;;
			esac
		done
		case " $licenses " in
		*" ${license:-none} "*) ;;
		*) echo "package.sh: the licence of $module must be one of: $licenses" >&2 && exit 1 ;;
		esac
		printf '\n==== %s %s: %s\nIts source: https://proxy.golang.org/%s/@v/%s.zip\n' "$module" "$version" "$license" "$module" "$version"
		for text in "$dir"/LICENSE* "$dir"/COPYING* "$dir"/NOTICE* "$dir"/PATENTS*; do
			[ ! -f "$text" ] || { printf -- '---- %s\n' "${text##*/}" && cat "$text"; }
		done
	done <"$stage/modules"
} >"$stage/NOTICE"
cat >"$stage/copyright" <<'EOF'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: CIMA
Source: https://github.com/cima-project/cima
Comment: The program is linked statically from modules under Apache-2.0,
 BSD-3-Clause, MIT and MPL-2.0. The file NOTICE has the whole texts, and where
 the source of each is.

Files: *
Copyright: 2026 The CIMA authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0; that of
 the Mozilla Public License in /usr/share/common-licenses/MPL-2.0.
EOF
gzip -9n <CHANGELOG.md >dist/stage/CHANGELOG.md.gz
cp LICENSE dist/stage/
cat >dist/stage/changelog.yaml <<EOF
- semver: $VERSION-1
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: The CIMA authors <maintainers@cima-project.github.io>
  deb: {urgency: medium, distributions: [unstable]}
  changes: [{note: "$VERSION; the file CHANGELOG.md says what changed"}]
EOF
sed -n -e 's/^PACKAGE: \(initial\|static\)/cima-spire: \1/p' packaging/lintian-overrides >dist/stage/cima-spire.overrides
export VERSION SOURCE_DATE_EPOCH ARCH
find dist/stage packaging/spire/examples -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
for format in deb rpm; do
	${GO:-go} run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 package \
		--config packaging/nfpm/cima-spire.yaml --packager "$format" --target dist/
done
