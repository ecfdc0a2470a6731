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
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/packaging/test/engine"
)

// clientPath is testdata/client, built once; TestMain removes it.
var clientPath string

// innerSocket is set in the environment of TestInvisiblePeer's other half.
const innerSocket = "CIMA_PEER_TEST_SOCKET"

func TestMain(m *testing.M) {
	if os.Getenv(innerSocket) != "" {
		os.Exit(m.Run()) // needs no client
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
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it runs in scratch images
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

// leaveOut skips a test for something that the machine lacks. In CI nothing
// may be left out.
func leaveOut(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("left out, and CI=true: " + reason)
	}
	t.Skip("left out: " + reason)
}

// records is a fake of what was started, by cgroup path.
type records struct {
	byPath map[string]Container
	err    error
}

func (r records) Declared(_ context.Context, path string) (Container, bool, error) {
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

// socket is a listening socket in a directory that can be mounted.
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
	s.SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := s.AcceptUnix()
	if err != nil {
		t.Fatalf("nobody connected: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{conn, bufio.NewScanner(conn)}
}

// client is the daemon's end of a connection from testdata/client.
type client struct {
	*net.UnixConn
	lines *bufio.Scanner
}

// tell sends a command and waits for nothing.
func (c *client) tell(t testing.TB, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, command); err != nil {
		t.Fatal(err)
	}
}

// do sends a command and fails the test unless the client could do it.
func (c *client) do(t testing.TB, format string, args ...any) {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	c.tell(t, command)
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if !c.lines.Scan() || c.lines.Text() != "ok" {
		t.Fatalf("client, told to %q, answered %q, %v", command, c.lines.Text(), c.lines.Err())
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

// refused fails the test unless the caller is refused, for a reason that holds
// the words given.
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
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
