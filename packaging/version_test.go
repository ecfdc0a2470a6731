package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// history is a repository with version.sh in it.
type history struct {
	t   *testing.T
	dir string
}

func newHistory(t *testing.T) history {
	h := history{t, t.TempDir()}
	b, err := os.ReadFile("version.sh")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(h.dir, "packaging/version.sh"), b)
	h.git("init", "-q")
	h.git("add", "-A")
	h.commit()
	return h
}

func (h history) git(args ...string) { run(h.t, h.dir, "git", args...) }

func (h history) commit() {
	h.git("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false", "commit", "-q", "--allow-empty", "-m", "x")
}

func (h history) version() string {
	h.t.Helper()
	return strings.TrimSpace(run(h.t, h.dir, "sh", "packaging/version.sh"))
}

// A tag's version is the tag, and snapshots sort between their neighbours, as Debian and
// as rpm compare versions.
func TestVersions(t *testing.T) {
	h := newHistory(t)
	var versions []string // in the order in which they must sort
	next := func() { versions = append(versions, h.version()) }
	next()
	h.commit()
	next()
	for _, tag := range []string{"v0.9.0", "v1.2.0-rc1", "v1.2.0-rc2", "v1.2.0", "v1.2.1", "v1.10.0"} {
		h.commit()
		h.git("tag", tag)
		want := strings.ReplaceAll(strings.TrimPrefix(tag, "v"), "-", "~")
		if got := h.version(); got != want {
			t.Errorf("tag %s gives %q, not %q", tag, got, want)
		}
		next()
		put(t, filepath.Join(h.dir, "packaging/version.sh"), append(read(t, "version.sh"), '\n'))
		next() // not committed
		put(t, filepath.Join(h.dir, "packaging/version.sh"), read(t, "version.sh"))
		for n := range 11 {
			h.commit()
			if n == 0 || n > 7 {
				next()
			}
		}
	}
	rpm, dpkg := need(t, "rpm"), need(t, "dpkg")
	for i, older := range versions {
		for _, newer := range versions[i+1:] {
			if got := strings.TrimSpace(run(t, ".", rpm, "--eval", `%{lua:print(rpm.vercmp("`+older+`", "`+newer+`"))}`)); got != "-1" {
				t.Errorf("rpm: %s must be older than %s: %s", older, newer, got)
			}
			if err := exec.Command(dpkg, "--compare-versions", older+"-1", "lt", newer+"-1").Run(); err != nil {
				t.Errorf("dpkg: %s must be older than %s: %v", older, newer, err)
			}
		}
	}
	h.git("tag", "v2.0_beta")
	if out, err := exec.Command("sh", filepath.Join(h.dir, "packaging/version.sh")).CombinedOutput(); err == nil || !strings.Contains(string(out), "2.0_beta") {
		t.Errorf("a tag that makes no version must be refused: %s", out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// numbered are the files that have a version of their own, and how each writes it: %s is
// that of Cargo and Helm, %p that of Python.
var numbered = map[string][]string{
	"rpc/python/pyproject.toml":             {"\nversion = \"%p\"\n"},
	"rpc/python/cima_client/__init__.py":    {"\n__version__ = \"%p\"\n"},
	"rpc/rust/Cargo.toml":                   {"\nversion = \"%s\"\n"},
	"rpc/rust/Cargo.lock":                   {"\nname = \"cima-client\"\nversion = \"%s\"\n"},
	"rpc/rust/README.md":                    {"cima-client-%s.crate", "path = \"cima-client-%s\""},
	"packaging/kubernetes/chart/Chart.yaml": {"\nversion: %s\n", "\nappVersion: \"%s\"\n"},
}

func hasVersion(t *testing.T, dir, version string) {
	t.Helper()
	forms := strings.NewReplacer("%s", strings.ReplaceAll(version, "~", "-"), "%p", strings.ReplaceAll(version, "~", ""))
	for name, lines := range numbered {
		text := string(read(t, filepath.Join(dir, name)))
		for _, line := range lines {
			if want := forms.Replace(line); !strings.Contains(text, want) {
				t.Errorf("%s must have %q: run packaging/set-version.sh %s", name, want, version)
			}
		}
	}
}

// Clients and chart have the number of the latest release in CHANGELOG.md, and 0.0.0 before
// the first.
func TestNumbersAgree(t *testing.T) {
	version := "0.0.0"
	if found := regexp.MustCompile(`(?m)^## ([0-9][^ ]*) \([0-9-]+\)$`).FindSubmatch(read(t, "../CHANGELOG.md")); found != nil {
		version = string(found[1])
	}
	hasVersion(t, "..", version)
}

// set-version.sh writes each of them, and nothing else.
func TestSetVersion(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "packaging/set-version.sh"), read(t, "set-version.sh"))
	for name := range numbered {
		put(t, filepath.Join(dir, name), read(t, filepath.Join("..", name)))
	}
	set := func(version string) error {
		return exec.Command("sh", filepath.Join(dir, "packaging/set-version.sh"), version).Run()
	}
	for _, version := range []string{"1.3.0~rc1", "10.20.30"} {
		if err := set(version); err != nil {
			t.Fatal(err)
		}
		hasVersion(t, dir, version)
	}
	for _, wrong := range []string{"", "1.2", "v1.2.0", "1.2.0-rc1", "1.2.0+3.gabc", "1.2.0~rc1/;w x", "1.2.0\n"} {
		if err := set(wrong); err == nil {
			t.Errorf("%q must be refused", wrong)
		}
	}
	for name := range numbered {
		text, now := string(read(t, filepath.Join("..", name))), string(read(t, filepath.Join(dir, name)))
		differ := 0
		old, lines := strings.Split(text, "\n"), strings.Split(now, "\n")
		for i := range min(len(old), len(lines)) {
			if old[i] != lines[i] {
				differ++
			}
		}
		if len(old) != len(lines) || differ != len(numbered[name]) {
			t.Errorf("%s: %d lines differ, and %d must", name, differ, len(numbered[name]))
		}
	}
}
