package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestIdentifyClosedConnection(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	conn.Close()
	refused(t, id, conn, "connection is closed")
}

// TestInvisiblePeer runs the daemon's side in a pid namespace in which the
// caller is not visible, and whose /proc is of another namespace.
func TestInvisiblePeer(t *testing.T) {
	if path := os.Getenv(innerSocket); path != "" {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&Identifier{}).connector(conn)
		fmt.Println("connector:", err)
		_, err = New(Options{Records: declare()})
		fmt.Println("new:", err)
		return
	}
	if os.Getuid() != 0 {
		leaveOut(t, "a pid namespace of its own needs root")
	}
	path := listen(t).dir + "/inner"
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInvisiblePeer$")
	cmd.Env = append(os.Environ(), innerSocket+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	waitFor(t, "the inner daemon", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err == nil
	})
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"connector: caller could not be attributed: its process cannot be seen", "new: peer: /proc/self is"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
}
