package api

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/rpc"
)

// The look-up socket tells of the process that has the number, and of no other.
func TestLookUpProcess(t *testing.T) {
	f := newFixture(t)
	c := f.dial("lookup.sock")
	who, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	started, err := procfs.Started(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if who.PID != os.Getpid() || who.Started != started || who.Container != nil || who.Power != nil || who.Host == nil {
		t.Errorf("this process: %+v", who)
	}
	if _, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid(), Started: started}); err != nil {
		t.Error(err)
	}
	// Another process had the number when the caller was told it.
	_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid(), Started: started - 1})
	wantCode(t, err, rpc.CodeUnattributed)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: ended.Process.Pid})
	wantCode(t, err, rpc.CodeUnattributed)
	for _, pid := range []int{0, -1, 4194305} {
		_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: pid})
		wantCode(t, err, rpc.CodeInvalidParams)
	}
	// A zombie has a number and a start time, and runs nothing.
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	for {
		if _, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: zombie.Process.Pid}); err != nil {
			break
		}
	}
	wantCode(t, err, rpc.CodeUnattributed)
}

// A process of the host has its own user, and is not root's because no socket says whose
// it is. One that two users have has none.
func TestLookUpProcessOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root, to start processes of other users")
	}
	f := newFixture(t)
	c := f.dial("lookup.sock")
	start := func(real, effective int) int {
		t.Helper()
		cmd := exec.Command("sleep", "60")
		started := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine, as it is
			_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(real), uintptr(effective), uintptr(effective))
			if errno != 0 {
				started <- errno
				return
			}
			started <- cmd.Start()
		}()
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return cmd.Process.Pid
	}
	who, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: start(65534, 65534)})
	if err != nil || who.Host == nil || who.Host.UID != 65534 {
		t.Errorf("a process of uid 65534: %+v, host %+v, %v", who, who.Host, err)
	}
	for _, uids := range [][2]int{{65534, 0}, {0, 65534}} {
		_, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: start(uids[0], uids[1])})
		wantCode(t, err, rpc.CodeUnattributed)
	}
}

// A group has the socket: it makes no quote, and names nobody else.
func TestLookupSocketAnswersNothingElse(t *testing.T) {
	f := newFixture(t)
	c := f.dial("lookup.sock")
	if who, err := c.WhoAmI(t.Context()); err != nil || who.PID != int32(os.Getpid()) {
		t.Errorf("%+v, %v", who, err)
	}
	for _, name := range methodNames() {
		if name == rpc.MethodWhoAmI || name == rpc.MethodLookUpProcess || name == rpc.MethodDiscover {
			continue
		}
		err := c.Call(t.Context(), name, nil, nil)
		wantCode(t, err, rpc.CodeMethodNotFound)
	}
	err := c.Call(t.Context(), rpc.MethodWhoAmI, map[string]string{"container_id": "x"}, nil)
	wantCode(t, err, rpc.CodeInvalidParams)
	_, err = f.client().LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid()})
	wantCode(t, err, rpc.CodeMethodNotFound)
}
