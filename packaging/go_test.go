package packaging

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// goScript is go.sh in a tree of its own, where go.mod requires a version, with
// the programs in bin alone, which print what they are given.
type goScript struct {
	t    *testing.T
	tree string
	bin  string
}

func newGoScript(t *testing.T, wants string) goScript {
	s := goScript{t, t.TempDir(), t.TempDir()}
	text, err := os.ReadFile("go.sh")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(s.tree, "packaging/go.sh"), text)
	put(t, filepath.Join(s.tree, "go.mod"), []byte("module m\n\ngo "+wants+"\n"))
	for _, name := range []string{"sh", "sed", "sort", "head", "uname", "mkdir", "mktemp", "rm", "mv", "cp", "chmod", "dirname", "sha256sum", "python3"} {
		path, err := exec.LookPath(filepath.Join("/usr/bin", name)) // not one of a version manager
		if err != nil {
			path, err = exec.LookPath(name)
		}
		if err != nil {
			t.Skip("left out:", err)
		}
		s.has(name, `exec `+path+` "$@"`)
	}
	return s
}

func (s goScript) has(name, script string) {
	s.t.Helper()
	path := filepath.Join(s.bin, name)
	put(s.t, path, []byte("#!/bin/sh\n"+script+"\n"))
	if err := os.Chmod(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s goScript) run() (stdout, stderr string, err error) {
	var out, said bytes.Buffer
	c := exec.Command("/bin/sh", filepath.Join(s.tree, "packaging/go.sh"))
	c.Env, c.Stdout, c.Stderr = []string{"PATH=" + s.bin, "HOME=" + s.tree}, &out, &said
	err = c.Run()
	return strings.TrimSpace(out.String()), said.String(), err
}

func TestGoThatIsHere(t *testing.T) {
	s := newGoScript(t, "1.27.0")
	for _, version := range []string{"go1.27.0", "go1.27.11", "go1.30.1", "go2.0"} {
		s.has("go", "echo "+version)
		if got, said, err := s.run(); err != nil || got != filepath.Join(s.bin, "go") {
			t.Errorf("%s: %s, %v %s", version, got, err, said)
		}
	}
}

func TestGoIsFetched(t *testing.T) {
	const newest = "99.0.0" // no Go of this machine is new enough
	var module bytes.Buffer
	arch := runtime.GOARCH
	w := zip.NewWriter(&module)
	for _, name := range []string{"bin/go", "pkg/tool/linux_" + arch + "/compile"} {
		f, err := w.Create("golang.org/toolchain@v0.0.1-go" + newest + ".linux-" + arch + "/" + name)
		if err == nil {
			_, err = f.Write([]byte("#!/bin/sh\necho fetched\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := newGoScript(t, newest)
	script := filepath.Join(s.tree, "packaging/go.sh")
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		switch name, _, _ := strings.Cut(line, "="); name {
		case "version":
			lines[i] = "version=" + newest
		case arch:
			lines[i] = fmt.Sprintf("%s=%x", arch, sha256.Sum256(module.Bytes()))
		}
	}
	put(t, script, []byte(strings.Join(lines, "\n")))
	archive := filepath.Join(t.TempDir(), "zip")
	put(t, archive, append([]byte("x"), module.Bytes()...))

	s.has("go", "echo go1.26.9") // too old
	refused := func(want string) {
		t.Helper()
		got, said, err := s.run()
		if err == nil || got != "" || !strings.Contains(said, want) || !strings.Contains(said, "hint: install Go "+newest) {
			t.Errorf("%q: %v %s", got, err, said)
		}
		left, err := os.ReadDir(filepath.Join(s.tree, ".cache/go"))
		if len(left) != 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	s.has("curl", "exit 22")
	refused("can't fetch https://proxy.golang.org/golang.org/toolchain/")
	s.has("curl", `while [ "$1" != -o ]; do shift; done; cp `+archive+` "$2"`)
	refused("the checksum of")
	put(t, archive, module.Bytes())
	python, err := os.ReadFile(filepath.Join(s.bin, "python3"))
	if err != nil {
		t.Fatal(err)
	}
	s.has("python3", "exit 1") // python3-minimal has no zipfile
	refused("neither unzip nor python3 (whole")
	put(t, filepath.Join(s.bin, "python3"), python)
	for range 2 { // the first run fetches it, the second finds it
		got, said, err := s.run()
		if err != nil || got != filepath.Join(s.tree, ".cache/go", newest+"-"+arch, "bin/go") {
			t.Fatalf("%q: %v %s", got, err, said)
		}
		if out, err := exec.Command(got).Output(); err != nil || string(out) != "fetched\n" {
			t.Errorf("%q %v", out, err)
		}
		s.has("curl", "exit 22")
	}
}
