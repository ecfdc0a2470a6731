#!/bin/sh
# Prints the path of a Go that builds CIMA: the installed one, if it is new
# enough, otherwise one of our own, which is fetched once, to .cache/go.
set -eu
cd "$(dirname "$0")/.."
need=$(sed -n 's/^go //p' go.mod)

# What is fetched if there is none: the module that holds Go's own toolchains.
version=1.27.3
amd64=af4c06478303fdd1bfb335fab86c7ccb9b12e529044a946a16a1c4bcc779f8d7
arm64=0ec0774cad42ecf4df82691146ee0b10c303ea594f163acb1737baedd5cc2835

die() { printf 'go.sh: %s\nhint: install Go %s or later, https://go.dev/dl, or name one: make GO=/path/to/go\n' "$1" "$need" >&2; exit 1; }

# Some systems have a python3 without its library.
has_python() { python3 -c "import $1" 2>/dev/null; }

# An older Go that may fetch the toolchain of go.mod reports that toolchain's
# version.
enough() {
	have=$("$1" env GOVERSION 2>/dev/null) || return 1
	[ "$(printf '%s\n' "$need" "${have#go}" | sort -V | head -n 1)" = "$need" ]
}

for go in "$(command -v go || true)" /usr/local/go/bin/go; do # sudo leaves out the second
	if [ -x "$go" ] && enough "$go"; then
		echo "$go"
		exit
	fi
done

case $(uname -sm) in
'Linux x86_64') arch=amd64 sum=$amd64 ;;
'Linux aarch64') arch=arm64 sum=$arm64 ;;
*) die "no Go $need here" ;;
esac
made=$PWD/.cache/go/$version-$arch
if [ ! -d "$made" ]; then
	mkdir -p .cache/go
	new=$(mktemp -d .cache/go/new-XXXXXX)
	trap 'rm -rf "$new"' EXIT
	url=https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-go$version.linux-$arch.zip
	echo "go.sh: no Go $need here: fetching $version to .cache/go (70 MB)" >&2
	if command -v curl >/dev/null; then
		curl -fsSL --retry 3 -o "$new/zip" "$url" || die "can't fetch $url"
	elif command -v wget >/dev/null; then
		wget -q -O "$new/zip" "$url" || die "can't fetch $url"
	elif has_python urllib.request; then
		python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], sys.argv[2])' "$url" "$new/zip" || die "can't fetch $url"
	else
		die "no Go $need here, and none of curl, wget and python3 to fetch it with"
	fi
	echo "$sum  $new/zip" | sha256sum --check --quiet >&2 || die "the checksum of $url must be $sum"
	if command -v unzip >/dev/null; then
		unzip -q "$new/zip" -d "$new"
	elif has_python zipfile; then
		python3 -m zipfile -e "$new/zip" "$new"
	else
		die "no Go $need here, and neither unzip nor python3 (whole, not minimal) to unpack one with"
	fi
	root=$new/golang.org/toolchain@v0.0.1-go$version.linux-$arch
	chmod +x "$root"/bin/* "$root"/pkg/tool/*/* # files in a module have no modes
	mv -T "$root" "$made" || [ -d "$made" ] # another make was faster
fi
echo "$made/bin/go"
