package peer

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// startWith starts a program that waits, and returns its pid, a pidfd and a
// function that ends it.
func startWith(t *testing.T, flags uintptr) (pid, pidfd int, end func()) {
	t.Helper()
	c := exec.Command("sleep", "60")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := c.Start(); err != nil {
		t.Skip("left out:", err)
	}
	end = func() { c.Process.Kill(); c.Wait() }
	t.Cleanup(end)
	pidfd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	return c.Process.Pid, pidfd, end
}

// Traits are equal for processes of one place, differ for another pid
// namespace, and don't exist for a process that ended; by pidfd and by /proc
// alike.
func TestTraits(t *testing.T) {
	id := newIdentifier(t, Options{Records: declare()})
	byPIDFD := id.kernel.pidfdNS
	pid, pidfd, end := startWith(t, 0)
	siblingPID, sibling, _ := startWith(t, 0)
	insidePID, inside, _ := startWith(t, unix.CLONE_NEWPID)
	var spaces []procfs.FileID
	for _, id.kernel.pidfdNS = range []bool{false, byPIDFD} {
		mine, err1 := id.TraitsOf(pid, pidfd)
		its, err2 := id.TraitsOf(siblingPID, sibling)
		other, err3 := id.TraitsOf(insidePID, inside)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if mine != its || mine.pidNS != id.ownNS {
			t.Errorf("two of one place: %+v, %+v", mine, its)
		}
		if other == mine || other.pidNS == mine.pidNS {
			t.Errorf("of another pid namespace: %+v", other)
		}
		spaces = append(spaces, other.pidNS)
	}
	if spaces[0] != spaces[1] {
		t.Errorf("/proc and the pidfd tell different namespaces: %v", spaces)
	}
	end()
	for _, id.kernel.pidfdNS = range []bool{false, byPIDFD} {
		if got, err := id.TraitsOf(pid, pidfd); err == nil || !strings.Contains(err.Error(), "ended") {
			t.Errorf("of a process that ended: %+v, %v", got, err)
		}
		// The pid of one process and the pidfd of another: as if the pid had
		// been reused.
		if got, err := id.TraitsOf(siblingPID, pidfd); err == nil {
			t.Errorf("of a pid that is another's by now: %+v", got)
		}
	}
}
