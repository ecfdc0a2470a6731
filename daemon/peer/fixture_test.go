package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// named is the usual caller of container A, in a world that tests can change.
func named(t *testing.T) (world, *Identifier, *Caller, int, *client) {
	t.Helper()
	w := newWorld(t)
	cmd, conn := startClient(t, listen(t))
	pid := cmd.Process.Pid
	w.set(pid, inA)
	w.mkdir("/unified/docker/" + idA)
	id := newIdentifier(t, w.options(declare(containerA(pid))))
	c := identify(t, id, conn.UnixConn)
	if err := c.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w, id, c, pid, conn
}

// at is a container with a declared path.
func at(id, path string) Container {
	return Container{ID: id, Name: id, Runtime: "docker", CgroupPath: path}
}

// lines makes cgroups from "controllers path" pairs.
func lines(pairs ...string) []hierarchy {
	var hs []hierarchy
	for i := 0; i < len(pairs); i += 2 {
		hs = append(hs, hierarchy{pairs[i], pairs[i+1]})
	}
	return hs
}

type recordsFunc func(path string) (Container, bool, error)

func (f recordsFunc) Declared(_ context.Context, _, path string) (Container, bool, error) {
	return f(path)
}

// openTest opens one of the test's own processes.
func openTest(t testing.TB, pid int) process {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	p, err := openProcess(proc, pid, pidfd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.closeDir()
		unix.Close(pidfd)
	})
	return p
}

// clientPath is testdata/client, built once; TestMain removes it.
var clientPath string

// innerSocket is set in the environment of the inner process of
// TestInvisiblePeer.
const innerSocket = "CIMA_PEER_TEST_SOCKET"

func TestMain(m *testing.M) {
	if os.Getenv(innerSocket) != "" {
		os.Exit(m.Run()) // these need no client
	}
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "tests of containers are left out:", err)
	}
	dir, err := os.MkdirTemp("", "cima-peer-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	clientPath = filepath.Join(dir, "client")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", clientPath, "./testdata/client")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the client runs in scratch images
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the client: %v\n%s", err, out)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// leaveOut skips a test because the machine lacks something. In CI no test may
// be skipped.
func leaveOut(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("left out, and CI=true: " + reason)
	}
	t.Skip("left out: " + reason)
}

// records is a fake of the started containers, by cgroup path.
type records struct {
	byPath map[string]Container
	err    error
}

func (r records) Declared(_ context.Context, _, path string) (Container, bool, error) {
	c, ok := r.byPath[path]
	return c, ok, r.err
}

func declare(cs ...Container) records {
	r := records{byPath: map[string]Container{}}
	for _, c := range cs {
		r.byPath[c.CgroupPath] = c
	}
	return r
}

func newIdentifier(t testing.TB, o Options) *Identifier {
	t.Helper()
	if o.Records == nil {
		o.Records = declare()
	}
	id, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { id.Close() })
	return id
}

// socket is a listening socket in a directory that containers can mount.
type socket struct {
	dir, path string
	*net.UnixListener
}

func listen(t testing.TB) socket {
	t.Helper()
	dir, err := os.MkdirTemp("", "cima-peer-") // t.TempDir may be too long for sun_path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := socket{dir: dir, path: filepath.Join(dir, "s")}
	if s.UnixListener, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(s.path, 0o666)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s socket) accept(t testing.TB) *client {
	t.Helper()
	s.SetDeadline(time.Now().Add(time.Minute))
	conn, err := s.AcceptUnix()
	if err != nil {
		t.Fatalf("no client connected: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{conn, bufio.NewScanner(conn)}
}

// client is the daemon's end of a connection from testdata/client.
type client struct {
	*net.UnixConn
	lines *bufio.Scanner
}

// tell sends a command and does not wait.
func (c *client) tell(t testing.TB, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, command); err != nil {
		t.Fatal(err)
	}
}

// do sends a command and fails the test unless the client succeeds.
func (c *client) do(t testing.TB, format string, args ...any) {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	c.tell(t, command)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if !c.lines.Scan() || c.lines.Text() != "ok" {
		t.Fatalf("client: asked to %q, it answered %q, %v", command, c.lines.Text(), c.lines.Err())
	}
}

// startClient runs testdata/client as a child and returns its connection.
func startClient(t testing.TB, s socket, words ...string) (*exec.Cmd, *client) {
	t.Helper()
	cmd := exec.Command(clientPath, append(words, s.path)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, s.accept(t)
}

// dial connects the test itself.
func dial(t testing.TB) *net.UnixConn {
	t.Helper()
	s := listen(t)
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s.accept(t).UnixConn
}

// identify fails the test if the caller is refused.
func identify(t testing.TB, id *Identifier, conn *net.UnixConn) *Caller {
	t.Helper()
	c, err := id.Identify(context.Background(), conn)
	if err != nil {
		t.Fatalf("refused: %v (%v)", err, cause(err))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// refused fails the test unless the caller is refused, for a reason that
// contains the given words.
func refused(t testing.TB, id *Identifier, conn *net.UnixConn, reason string) {
	t.Helper()
	c, err := id.Identify(context.Background(), conn)
	if err == nil {
		c.Close()
		t.Fatalf("named %+v, want a refusal with %q", c.Container, reason)
	}
	wantRefusal(t, err, reason)
}

func wantRefusal(t testing.TB, err error, reason string) {
	t.Helper()
	var r *refusal
	if !errors.As(err, &r) || !errors.Is(err, ErrUnattributed) {
		t.Fatalf("error %v, want a refusal", err)
	}
	if !strings.Contains(r.reason, reason) {
		t.Fatalf("refused for %q (%v), want %q", r.reason, r.cause, reason)
	}
}

func cause(err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return r.cause
	}
	return nil
}

// waitFor polls until something is so.
func waitFor(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// world is a fake /proc and /sys/fs/cgroup for real processes on real sockets.
type world struct {
	testing.TB
	dir string
}

// fact is the state of one process in the world.
type fact struct {
	cgroup string
	nsPID  string // the pid namespace's name
	pids   string // the NSpid line
	root   string // the root directory's name
	start  uint64
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{t, t.TempDir()}
	pid := strconv.Itoa(os.Getpid())
	w.must(os.MkdirAll(w.dir+"/proc", 0o755), os.MkdirAll(w.dir+"/cgroup/unified", 0o755),
		os.MkdirAll(w.dir+"/cgroup/memory", 0o755), os.Symlink(pid, w.dir+"/proc/self"))
	w.set(os.Getpid(), fact{cgroup: "0::/system.slice/cimad.service\n"})
	return w
}

func (w world) must(errs ...error) {
	w.Helper()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
}

// set writes /proc/PID; facts that are not given are those of the host.
func (w world) set(pid int, f fact) {
	w.Helper()
	if f.nsPID == "" {
		f.nsPID = "host"
	}
	if f.root == "" {
		f.root = "host"
	}
	if f.pids == "" {
		f.pids = strconv.Itoa(pid)
	}
	dir := fmt.Sprintf("%s/proc/%d", w.dir, pid)
	ns, root := filepath.Join(w.dir, "ns-"+f.nsPID), filepath.Join(w.dir, "root-"+f.root)
	w.must(os.RemoveAll(dir), os.MkdirAll(dir+"/ns", 0o755), os.MkdirAll(root, 0o755),
		os.WriteFile(ns, nil, 0o644), os.Symlink(ns, dir+"/ns/pid"), os.Symlink(root, dir+"/root"),
		os.WriteFile(dir+"/cgroup", []byte(f.cgroup), 0o644),
		os.WriteFile(dir+"/status", []byte("Name:\tx\nNSpid:\t"+f.pids+"\n"), 0o644),
		os.WriteFile(dir+"/stat", fmt.Appendf(nil, "%d (x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", pid, f.start), 0o644))
}

// mkdir makes a cgroup.
func (w world) mkdir(path string) {
	w.Helper()
	w.must(os.MkdirAll(w.dir+"/cgroup"+path, 0o755))
}

func (w world) options(r Records) Options {
	return Options{Records: r, procRoot: w.dir + "/proc", cgroupRoot: w.dir + "/cgroup"}
}

// inA is a process of container A, whose first process is pid init.
var inA = fact{cgroup: "4:memory:/docker/" + idA + "\n0::/docker/" + idA + "\n", nsPID: "a", pids: "9 1", root: "a", start: 77}

func containerA(init int) Container {
	return Container{ID: idA, Name: idA, Runtime: "docker", CgroupPath: "/docker/" + idA, InitPID: init, InitStart: 77}
}
