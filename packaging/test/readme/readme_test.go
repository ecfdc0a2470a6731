// The code blocks of the README and the examples of the manual run here, in order and as
// they are printed, in a fresh copy of the tree and in namespaces with engines of their own.
package readme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil && os.Geteuid() == 0 {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// notHere are the README's blocks that can't run in a test, by their first line, each with
// the reason.
var notHere = map[string]string{
	"make packages                # deb and rpm, cimactl for macOS and Windows, in dist/": "needs apt and systemd: packaging's tests build and unpack them, make test-vm installs them",
}

// block is a block of code, as printed.
type block struct {
	file string
	line int
	kind string // "sh", "text"
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// fenced are the blocks of a text between lines of three backquotes.
func fenced(t *testing.T, path string) (found []block) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var within *block
	for i, line := range strings.Split(string(text), "\n") {
		kind, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && within == nil:
			within = &block{file: filepath.Base(path), line: i + 1, kind: kind}
		case fence:
			found, within = append(found, *within), nil
		case within != nil:
			within.text += line + "\n"
		}
	}
	if within != nil {
		t.Fatalf("%s is not closed", within)
	}
	return found
}

// A terminal is a shell that gets block after block.
type terminal struct {
	t   *testing.T
	dir string
	env []string
}

// run runs blocks in one shell, which stops at the first command that fails, must end
// with this code, and returns what they print. Each block is told before it begins.
func (m terminal) run(blocks []block, exit int) string {
	m.t.Helper()
	var script strings.Builder
	for _, b := range blocks {
		fmt.Fprintf(&script, "echo '== %s' >&3\n%s", b, b.text)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", script.String())
	c.Dir, c.Env = m.dir, m.env
	reader, writer, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	defer reader.Close()
	c.ExtraFiles = []*os.File{writer}
	output, err := os.Create(filepath.Join(m.t.TempDir(), "output")) // a file: what stays in the background holds no pipe open
	if err != nil {
		m.t.Fatal(err)
	}
	defer output.Close()
	c.Stdout, c.Stderr = output, output
	err = c.Run()
	writer.Close()
	text, readErr := os.ReadFile(output.Name())
	if readErr != nil {
		m.t.Fatal(readErr)
	}
	if c.ProcessState.ExitCode() != exit {
		told := make([]byte, 64<<10)
		n, _ := reader.Read(told)
		lines := strings.Split(strings.TrimSpace(string(told[:n])), "\n")
		m.t.Fatalf("%s: %v\n%s", lines[len(lines)-1], err, text)
	}
	return string(text)
}

// copyOfTree is a copy of what git knows of the tree, and of what is new in it.
func copyOfTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	list.Dir = "../../.."
	names, err := list.Output()
	if err != nil {
		t.Skip("left out: no git checkout: ", err)
	}
	tar := exec.Command("tar", "--create", "--ignore-failed-read", "--files-from=-")
	tar.Dir, tar.Stdin = list.Dir, bytes.NewReader(names)
	archive, err := tar.Output()
	if err != nil {
		t.Fatal(err)
	}
	untar := exec.Command("tar", "--extract", "--directory", dir)
	untar.Stdin = bytes.NewReader(archive)
	if out, err := untar.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A user's, as a clone is.
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, someUser, someUser))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// someUser owns the copy of the tree.
const someUser = 1000

// sudo stands for sudo(8), which test machines may not have. The user is root already.
const sudo = `#!/bin/bash
case "$1" in
-b) shift; setsid "$@" & ;;
*) exec "$@" ;;
esac
`

// newTerminal is at a fresh copy of the tree, on a machine with docker.
func newTerminal(t *testing.T) terminal {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if _, err := engine.Docker(); err != nil {
		t.Skip("left out: ", err)
	}
	for _, tool := range []string{"bash", "make", "git", "tar", "socat", "jq", "pkill"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("left out: no ", tool)
		}
	}
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "sudo"), []byte(sudo), 0o755); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "NO_COLOR=1")
	return terminal{t, copyOfTree(t), env}
}

// The README's blocks run as they are pasted, and print what it shows.
func TestReadme(t *testing.T) {
	readme := fenced(t, "../../../README.md")
	var shell, shown []block
	left := len(notHere)
	for _, b := range readme {
		first, _, _ := strings.Cut(b.text, "\n")
		switch {
		case notHere[first] != "":
			left--
		case b.kind == "sh":
			shell = append(shell, b)
		case b.kind == "text":
			shown = append(shown, b)
		}
	}
	if left != 0 || len(shell) < 6 || len(shown) < 1 {
		t.Fatalf("%d blocks to run, %d that show output, %d of those that can't run are missing", len(shell), len(shown), left)
	}
	m := newTerminal(t)
	out := m.run(shell, 0)
	if testing.Verbose() {
		t.Log(out)
	}
	for _, want := range []string{"\nexit 4\n", `wrong       caller-values: asked.environment is [{"name":"DEBUG"}], must be none`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not printed:\n%s", want, out)
		}
	}
	for _, b := range shown {
		for line := range strings.Lines(b.text) {
			if command, is := strings.CutPrefix(line, "$ "); is {
				if !strings.Contains(all(shell), "\n"+command) {
					t.Errorf("%s: %q is no line of a block that is run", b, command)
				}
			} else if !printed(out, strings.TrimRight(line, "\n")) {
				t.Errorf("%s: %q is not printed:\n%s", b, line, out)
			}
		}
	}
	// What predict says before is what the container has.
	digest := regexp.MustCompile(`(?m)^launch digest  ([0-9a-f]{96})$`).FindStringSubmatch(out)
	if digest == nil || strings.Count(out, "\n"+digest[1]+"\n") != 1 {
		t.Errorf("predict prints another digest than whoami:\n%s", out)
	}
	// What root made belongs to the user, and nothing else is left.
	err := filepath.WalkDir(m.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != someUser {
			t.Errorf("%s is root's", path)
		}
		if filepath.Dir(path) == m.dir && regexp.MustCompile(`\.(json|bin|tar)$`).MatchString(path) {
			t.Errorf("%s is left behind", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func all(blocks []block) string {
	var b strings.Builder
	for _, one := range blocks {
		b.WriteString("\n" + one.text)
	}
	return b.String()
}

// printed reports whether a line was printed. A digest or an id in it stands for any, and
// … for what was cut off.
func printed(out, line string) bool {
	pattern := regexp.MustCompile(`[0-9a-f]{12,}`).ReplaceAllString(regexp.QuoteMeta(line), "[0-9a-f]+")
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(out)
}
