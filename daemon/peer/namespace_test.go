package peer

import (
	"os"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
	"golang.org/x/sys/unix"
)

func TestBelow(t *testing.T) {
	nestedPID := startNested(t)
	outer, inner := openTest(t, os.Getpid()), openTest(t, nestedPID)
	top, err := outer.pidNS()
	if err != nil {
		t.Fatal(err)
	}
	own, err := inner.pidNS()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		p    process
		top  procfs.FileID
		want bool
	}{
		"nested below the host":      {inner, top, true},
		"nested below itself":        {inner, own, false},
		"host below nested":          {outer, own, false},
		"nested below one unrelated": {inner, procfs.FileID{Device: own.Device, Inode: 1}, false},
	} {
		if got, err := test.p.below(test.top); err != nil || got != test.want {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

// startNested starts a client in a pid namespace of its own and returns its
// pid here.
func startNested(t testing.TB) int {
	t.Helper()
	if os.Getuid() != 0 {
		leaveOut(t, "a pid namespace of its own needs root")
	}
	s := listen(t)
	_, conn := startClient(t, s, "nest")
	p, err := (&Identifier{}).connector(conn.UnixConn)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(p.pidfd)
	return p.pid
}
