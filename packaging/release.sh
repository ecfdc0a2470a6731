#!/usr/bin/env bash
# Makes a release in dist/release: release.sh VERSION, at the commit of the tag vVERSION.
# Source with its modules, packages, a bill of materials of each program (CycloneDX),
# checksums, and a signature over these by RELEASE_KEY, an SSH key that RELEASE-KEYS lists
# (its public half, where an agent or a token holds the key). Everything is built twice, in
# two folders, and must be equal.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
SBOM=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
go=${GO:-go}
signers=${RELEASE_SIGNERS:-RELEASE-KEYS}

die() { printf 'release: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

version=${1:-}
[ -n "$version" ] || die 'no version is given' 'make release VERSION=1.2.0 RELEASE_KEY=~/.ssh/cima-release.pub'
[ -z "$(git status --porcelain)" ] || die 'the work tree must be clean' 'commit or stash what git status lists'
tag=v$(printf %s "$version" | tr '~' -)
[ "$(git rev-parse -q --verify "$tag^{commit}" || true)" = "$(git rev-parse HEAD)" ] || die "the tag $tag must be at HEAD" "git tag -s $tag"
[ "$(VERSION='' packaging/version.sh)" = "$version" ] || die "version.sh gives $(packaging/version.sh), not $version"
grep -qE "^## $(printf %s "$version" | sed 's/[.+]/\\&/g') \([0-9]{4}-[0-9]{2}-[0-9]{2}\)\$" CHANGELOG.md ||
	die "CHANGELOG.md must have the heading \"## $version (YYYY-MM-DD)\"" 'what was "Unreleased" gets version and date'
# The tree is clean, so that what is written here can be taken back whole.
packaging/set-version.sh "$version"
numbered=$(git status --porcelain)
git checkout -q -- .
[ -z "$numbered" ] || die "clients and chart have another version than $version: $(echo $numbered)" "packaging/set-version.sh $version, and commit"
[ -n "${RELEASE_KEY:-}" ] || die 'no key to sign with' 'RELEASE_KEY=FILE: an SSH key that RELEASE-KEYS lists; SECURITY.md says who holds it'
[ -f "$signers" ] && grep -q '^[^#]' "$signers" || die "$signers lists no key" 'add the public half of the key in the commit that is released'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

# bom PROGRAM PACKAGE: the modules that are linked, with licences; neither the time nor a
# random number of the run.
bom() {
	"$go" run "$SBOM" app -json -licenses -noserial -std -main "$2" -output "$1.raw" . 2>/dev/null
	python3 - "$1.raw" "dist/$1-$version.cdx.json" "$1" "$version" <<-'PY'
		import datetime, json, os, sys
		raw, out, name, version = sys.argv[1:]
		bom = json.load(open(raw))
		when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
		bom["metadata"]["timestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
		bom["metadata"]["component"].update(name=name, version=version)
		if len(bom.get("components", [])) < 10:
		    sys.exit(f"release: the bill of materials of {name} has {len(bom.get('components', []))} components: is this the right list?")
		json.dump(bom, open(out, "w"), indent=1, sort_keys=True)
	PY
	rm "$1.raw"
}

# made DIR: all of a release but the signature, in DIR/dist.
made() {
	git clone -q --no-hardlinks "$top" "$1"
	(
		cd "$1"
		git checkout -q "$tag"
		GO=$go packaging/build.sh >/dev/null
		GO=$go packaging/dist.sh >/dev/null
		bom cimad daemon/cimad
		bom cimad-sim daemon/cimad-sim
		bom cimactl rpc/cimactl
		rm -rf dist/stage dist/SHA256SUMS
		cd dist && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum >"$1.sums" && mv "$1.sums" SHA256SUMS
	)
}

mkdir "$work/elsewhere"
made "$work/first"
made "$work/elsewhere/cima"
diff "$work/first/dist/SHA256SUMS" "$work/elsewhere/cima/dist/SHA256SUMS" >&2 || die 'two builds differ'
ssh-keygen -q -Y sign -n cima-release -f "$RELEASE_KEY" "$work/first/dist/SHA256SUMS"
who=$(ssh-keygen -Y find-principals -s "$work/first/dist/SHA256SUMS.sig" -f "$signers") || die "$signers does not list the key $RELEASE_KEY"
ssh-keygen -q -Y verify -n cima-release -f "$signers" -I "$who" -s "$work/first/dist/SHA256SUMS.sig" <"$work/first/dist/SHA256SUMS" >/dev/null
rm -rf dist/release
mkdir -p dist
mv "$work/first/dist" dist/release
printf 'release: %s: %d files in dist/release, equal in two builds, signed by %s\n' "$version" "$(find dist/release -type f | wc -l)" "$who"
