package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The daemon and the test are one process here: the host.
func TestIdentifyHost(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	c := identify(t, id, conn)
	if c.PID != os.Getpid() || c.UID != uint32(os.Getuid()) || c.GID != uint32(os.Getgid()) {
		t.Errorf("%d %d %d", c.PID, c.UID, c.GID)
	}
	if c.Container != nil || c.Instance != 0 || c.CgroupOwner != 0 || c.PIDFD != id.kernel.peerPIDFD {
		t.Errorf("%+v", c)
	}
	if err := c.Check(context.Background()); err != nil || !c.Alive() {
		t.Errorf("check: %v, alive %t", err, c.Alive())
	}
	c.Close()
	c.Close()
	wantRefusal(t, c.Check(context.Background()), "closed")
	if c.Alive() {
		t.Error("alive after Close")
	}
}

func TestIdentifyWithoutPeerPIDFD(t *testing.T) {
	id := newIdentifier(t, Options{})
	id.kernel.peerPIDFD = false
	c := identify(t, id, dial(t))
	if c.PIDFD || c.PID != os.Getpid() {
		t.Errorf("pidfd %t, pid %d", c.PIDFD, c.PID)
	}
}

func TestIdentifyContext(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	c := identify(t, id, conn)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := id.Identify(ctx, conn); err != context.Canceled {
		t.Errorf("identify: %v", err)
	}
	if err := c.Check(ctx); err != context.Canceled {
		t.Errorf("check: %v", err)
	}
	if err := c.Check(context.Background()); err != nil {
		t.Errorf("check after a canceled one: %v", err)
	}
}

func TestIdentifyClosedConnection(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	conn.Close()
	refused(t, id, conn, "connection is closed")
}

// A peer that died after it connected: as a zombie, reaped, and when another
// process holds the socket that it opened.
func TestDeadPeerIsRefused(t *testing.T) {
	for _, end := range []string{"exit", "handover"} {
		t.Run(end, func(t *testing.T) {
			id := newIdentifier(t, Options{})
			cmd, conn := startClient(t, listen(t))
			c := identify(t, id, conn.UnixConn)
			conn.tell(t, end)
			waitFor(t, "the end of the client", func() bool { return !c.Alive() })
			refused(t, id, conn.UnixConn, "has ended")
			wantRefusal(t, c.Check(context.Background()), "has ended")
			cmd.Wait()
			refused(t, id, conn.UnixConn, "has ended")
			wantRefusal(t, c.Check(context.Background()), "has ended")
			id.kernel.peerPIDFD = false
			refused(t, id, conn.UnixConn, "has ended")
		})
	}
}

// The pid of a peer that died is given to another process.
func TestReusedPIDIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "choosing the next pid needs root")
	}
	id := newIdentifier(t, Options{})
	if !id.kernel.peerPIDFD {
		leaveOut(t, "the kernel has no SO_PEERPIDFD (Linux 6.5)")
	}
	s := listen(t)
	for range 50 {
		cmd, conn := startClient(t, s)
		c := identify(t, id, conn.UnixConn)
		conn.tell(t, "exit")
		cmd.Wait()
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(c.PID-1)), 0); err != nil {
			leaveOut(t, err.Error())
		}
		if other, _ := startClient(t, s); other.Process.Pid != c.PID {
			continue // somebody else was faster
		}
		refused(t, id, conn.UnixConn, "has ended")
		wantRefusal(t, c.Check(context.Background()), "has ended")

		// Without SO_PEERPIDFD the mistake can't be seen, and that is said.
		id.kernel.peerPIDFD = false
		if c := identify(t, id, conn.UnixConn); c.PIDFD {
			t.Error("sure of a pid that may have been reused")
		}
		return
	}
	t.Fatal("no pid was given out again in 50 tries")
}

// TestInvisiblePeer runs the daemon's side in a pid namespace from which the
// caller can't be seen, and whose /proc is another's.
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

func TestNewErrors(t *testing.T) {
	for name, o := range map[string]Options{
		"no records given": {},
		"must be mounted":  {Records: declare(), cgroupRoot: "/none"},
		"open /none":       {Records: declare(), procRoot: "/none"},
		"the proc file system of its own pid namespace": {Records: declare(), procRoot: "/"},
	} {
		id, err := New(o)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
}
