// The verbs of cima-access(7) run here as people run them: cimactl, in containers of a
// docker of the test's own and at a relying party, beside the daemon on a simulated TD.
package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/packaging/test/engine"
)

func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil && os.Geteuid() == 0 {
		fmt.Fprintln(os.Stderr, "access:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const (
	app, other = "app:1", "other:1" // images: of the right container, and of another
	root       = "/run/td/root.pem"
	runtimeDir = "/run" // ours alone
)

// stage is a daemon, an engine with two images, and a relying party's folder.
type stage struct {
	*testing.T
	docker  *engine.Engine
	bin     string
	dir     string // the relying party's
	started int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	docker, err := engine.Docker()
	if err != nil {
		t.Skip("left out: ", err)
	}
	shell, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("left out: no busybox")
	}
	s := &stage{T: t, docker: docker, bin: t.TempDir(), dir: t.TempDir()}
	for _, program := range []string{"daemon/cimad-sim", "rpc/cimactl"} {
		build := exec.Command("go", "build", "-o", s.bin, "../../../"+program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", program, err, out)
		}
	}
	s.serve("td", "--dir", "/run/td")
	s.until("the simulated TD", func() bool { return listens("/run/td/td.sock") })
	if err := os.WriteFile(filepath.Join(s.dir, "cimad.toml"), []byte("[limits]\nquotes_per_minute = 6000\nquotes_burst = 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve("--td", "/run/td/td.sock", "--runtime-dir", runtimeDir, "--config", filepath.Join(s.dir, "cimad.toml"))
	s.until("the daemon", func() bool { return listens("/run/cima/cima.sock") })
	for name, text := range map[string]string{app: "app", other: "other"} {
		i := engine.NewImage().Folder("/tmp", 0o1777).File("/bin/busybox", shell).File("/cimactl", filepath.Join(s.bin, "cimactl")).Text("/www/index.html", []byte(text))
		for _, applet := range []string{"sh", "cat", "sleep", "httpd", "grep"} {
			i.Link("/bin/"+applet, "busybox")
		}
		if err := docker.Import(t.Context(), name, i); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// serve starts cimad-sim, which ends with the test.
func (s *stage) serve(words ...string) {
	s.Helper()
	c := exec.Command(filepath.Join(s.bin, "cimad-sim"), words...)
	said := new(output)
	c.Stderr = said
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		if s.Failed() {
			s.Logf("cimad-sim %s:\n%s", words, said)
		}
		for _, left := range []string{"/run/cima", "/run/cima-admin", "/run/log/cima", "/run/td"} {
			os.RemoveAll(left)
		}
	})
}

func listens(path string) bool {
	nc, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

func (s *stage) until(what string, is func() bool) {
	s.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("%s doesn't come", what)
		}
	}
}

// output is what a program printed until now.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// ran is a command that has ended.
type ran struct {
	stage       *stage
	words       []string
	out, stderr string
	code        int
}

// cimactl runs at the relying party.
func (s *stage) cimactl(words ...string) ran {
	s.Helper()
	return s.run("", filepath.Join(s.bin, "cimactl"), words...)
}

func (s *stage) run(input, program string, words ...string) ran {
	s.Helper()
	c := exec.CommandContext(s.Context(), program, words...)
	c.Dir, c.Stdin = s.dir, strings.NewReader(input)
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatalf("%s %s: %v", program, words, err)
	}
	return ran{s, append([]string{filepath.Base(program)}, words...), out.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// well fails unless the command ended well.
func (r ran) well() string {
	r.stage.Helper()
	if r.code != 0 {
		r.stage.Fatalf("%s: exit %d: %s", r.words, r.code, r.stderr)
	}
	return r.out
}

// refused fails unless the command printed nothing, ended with this code and said this.
func (r ran) refused(code int, want ...string) {
	r.stage.Helper()
	if r.out != "" || r.code != code {
		r.stage.Errorf("%s: it printed %q and ended with %d, want nothing and %d: %s", r.words, r.out, r.code, code, r.stderr)
	}
	for _, w := range want {
		if !strings.Contains(r.stderr, w) {
			r.stage.Errorf("%s: it must say %q: %s", r.words, w, r.stderr)
		}
	}
}

// container is one that runs, with stdin open.
type container struct {
	stage       *stage
	name        string
	in          io.WriteCloser
	out, stderr *output
	ended       chan error
}

// start runs an image with a command line. Containers of equal image, flags and line have
// equal launch digests.
func (s *stage) start(image string, flags []string, line ...string) *container {
	s.Helper()
	s.started++
	k := &container{stage: s, name: fmt.Sprintf("c%d", s.started), out: new(output), stderr: new(output), ended: make(chan error, 1)}
	args := append([]string{"run", "-i", "--rm", "--name", k.name, "--network", "none", "-v", "/run/cima:/run/cima:ro"}, s.docker.Run...)
	c := s.docker.Command(context.Background(), append(append(append(args, flags...), image), line...)...)
	c.Stdout, c.Stderr = k.out, k.stderr
	in, err := c.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	k.in = in
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	over := make(chan struct{})
	go func() { k.ended <- c.Wait(); close(over) }()
	s.Cleanup(func() {
		in.Close()
		s.docker.Do(context.Background(), "", "rm", "-f", k.name)
		<-over
		if s.Failed() {
			s.Logf("%s (%s %.200q) said: %s", k.name, image, line, k.stderr)
		}
	})
	return k
}

// says is a line to stdin.
func (k *container) says(text string) {
	k.stage.Helper()
	if _, err := io.WriteString(k.in, text); err != nil {
		k.stage.Fatal(err)
	}
}

// line waits for the first line of stdout.
func (k *container) line() string {
	k.stage.Helper()
	k.stage.until("a line of "+k.name, func() bool {
		select {
		case err := <-k.ended:
			k.stage.Fatalf("%s has ended: %v: %s", k.name, err, k.stderr)
		default:
		}
		return strings.Contains(k.out.String(), "\n")
	})
	line, _, _ := strings.Cut(k.out.String(), "\n")
	return line + "\n"
}

// code waits for the end.
func (k *container) code() int {
	k.stage.Helper()
	err := <-k.ended
	k.ended <- err
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.stage.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// inside runs a command in a container, by docker exec.
func (s *stage) inside(k *container, input string, words ...string) ran {
	s.Helper()
	args := append(s.docker.Client[1:len(s.docker.Client):len(s.docker.Client)], "exec", "-i", k.name)
	return s.run(input, s.docker.Client[0], append(args, words...)...)
}

// file is one of the relying party's.
func (s *stage) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// policy is made of first evidence, as the manual says.
func (s *stage) policy(name, evidence string) string {
	s.Helper()
	first := s.file(name+".first", evidence)
	return s.file(name, s.cimactl("policy", "init", first, "--trust-root", root, "--waive", "collateral,host-input-unknown").well())
}
