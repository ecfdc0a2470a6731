package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stand is a repository with release.sh in it, whose builds are a line of shell each. Its Go
// makes bills of materials alone.
type stand struct {
	history
	key string
}

func newStand(t *testing.T) stand {
	need(t, "ssh-keygen")
	s := stand{newHistory(t), filepath.Join(t.TempDir(), "key")}
	run(t, ".", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.key)
	s.file("packaging/release.sh", string(read(t, "release.sh")))
	s.file("packaging/version.sh", string(read(t, "version.sh")))
	s.file("packaging/build.sh", "mkdir -p dist && packaging/version.sh >dist/cimad.deb\n")
	s.file("packaging/dist.sh", "echo source >dist/cima.tar.gz\n")
	s.file("packaging/set-version.sh", "echo \"$1\" >clients\n")
	put(s.t, filepath.Join(s.dir, "clients"), []byte("1.2.0\n"))
	s.file(".gitignore", "/dist/\n")
	s.file("CHANGELOG.md", "# Changelog\n\n## 1.2.0 (2026-12-01)\n\n- First.\n")
	s.file("RELEASE-KEYS", `release@cima namespaces="cima-release" `+string(read(t, s.key+".pub")))
	s.file("go", `case "$*" in *app*) while [ "$1" != -output ]; do shift; done
		echo '{"metadata":{"timestamp":"now","component":{}},"components":[1,2,3,4,5,6,7,8,9,10]}' >"$2" ;; esac`)
	s.git("add", "-A")
	s.commit()
	s.git("tag", "v1.2.0")
	return s
}

func (s stand) file(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if name != ".gitignore" && !strings.Contains(name, "release.sh") && !strings.HasPrefix(text, "#") {
		text = "#!/bin/sh\nset -e\n" + text
	}
	if name == "RELEASE-KEYS" {
		text = strings.TrimPrefix(text, "#!/bin/sh\nset -e\n")
	}
	put(s.t, path, []byte(text))
	if err := os.Chmod(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s stand) release(version string) (said string, err error) {
	c := exec.Command("bash", filepath.Join(s.dir, "packaging/release.sh"), version)
	c.Env = append(os.Environ(), "GO="+filepath.Join(s.dir, "go"), "RELEASE_KEY="+s.key)
	out, err := c.CombinedOutput()
	return string(out), err
}

// A release has checksums of all files, and a signature over these that RELEASE-KEYS
// confirms.
func TestRelease(t *testing.T) {
	s := newStand(t)
	if said, err := s.release("1.2.0"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	dist := filepath.Join(s.dir, "dist/release")
	sums := string(read(t, filepath.Join(dist, "SHA256SUMS")))
	for _, name := range []string{"cimad.deb", "cima.tar.gz", "cimad-1.2.0.cdx.json", "cimad-sim-1.2.0.cdx.json", "cimactl-1.2.0.cdx.json"} {
		if !strings.Contains(sums, "  "+name+"\n") {
			t.Errorf("SHA256SUMS lacks %s:\n%s", name, sums)
		}
	}
	run(t, dist, "sha256sum", "--check", "--quiet", "SHA256SUMS")
	if got := string(read(t, filepath.Join(dist, "cimad.deb"))); got != "1.2.0\n" {
		t.Errorf("it was built as %q", got)
	}
	check := func() error {
		c := exec.Command("ssh-keygen", "-q", "-Y", "verify", "-f", filepath.Join(s.dir, "RELEASE-KEYS"), "-I", "release@cima", "-n", "cima-release", "-s", "SHA256SUMS.sig")
		c.Dir, c.Stdin = dist, strings.NewReader(sums)
		return c.Run()
	}
	if err := check(); err != nil {
		t.Errorf("the signature: %v", err)
	}
	sums += "x"
	if check() == nil {
		t.Error("other checksums must not have that signature")
	}
}

// What is not a release is refused, and nothing is signed.
func TestReleaseIsRefused(t *testing.T) {
	commit := func(s stand) {
		s.git("add", "-A")
		s.commit()
		s.git("tag", "-f", "v1.2.0")
	}
	for want, spoil := range map[string]func(stand){
		"the work tree must be clean":                       func(s stand) { s.file("CHANGELOG.md", "# else\n") },
		"the tag v1.2.0 must be at HEAD":                    func(s stand) { s.commit() },
		"must have the heading":                             func(s stand) { s.file("CHANGELOG.md", "# Changelog\n\n## 1.2.0\n"); commit(s) },
		"clients and chart have another version than 1.2.0": func(s stand) { put(s.t, filepath.Join(s.dir, "clients"), []byte("0.9.0\n")); commit(s) },
		"lists no key":                                      func(s stand) { s.file("RELEASE-KEYS", "# none\n"); commit(s) },
		"does not list the key": func(s stand) {
			other := filepath.Join(s.t.TempDir(), "other")
			run(s.t, ".", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
			s.file("RELEASE-KEYS", "release@cima "+string(read(s.t, other+".pub")))
			commit(s)
		},
		"two builds differ": func(s stand) { s.file("packaging/build.sh", "mkdir -p dist && pwd >dist/cimad.deb\n"); commit(s) },
		"is this the right list": func(s stand) {
			s.file("go", `case "$*" in *app*) while [ "$1" != -output ]; do shift; done; echo '{"metadata":{"component":{}}}' >"$2" ;; esac`)
			commit(s)
		},
	} {
		s := newStand(t)
		spoil(s)
		if said, err := s.release("1.2.0"); err == nil || !strings.Contains(said, want) {
			t.Errorf("it must be refused with %q: %v\n%s", want, err, said)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "dist/release")); err == nil {
			t.Errorf("%s: there must be no release", want)
		}
	}
	s := newStand(t)
	if said, err := s.release(""); err == nil || !strings.Contains(said, "no version is given") {
		t.Errorf("without a version: %v %s", err, said)
	}
}
