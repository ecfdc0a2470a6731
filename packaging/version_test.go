package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
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
