package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestCheckSeesAMove(t *testing.T) {
	w, _, c, pid, _ := named(t)
	file := fmt.Sprintf("%s/proc/%d/cgroup", w.dir, pid)
	for _, now := range []string{inA.cgroup + "x", inA.cgroup[1:], strings.Replace(inA.cgroup, "a1", "a2", 1)} {
		c.failed = nil
		w.must(os.WriteFile(file, []byte(now), 0o644))
		wantRefusal(t, c.Check(context.Background()), "its cgroups changed")
	}
	// Back in its cgroup it stays refused: what it did meanwhile is not known.
	w.must(os.WriteFile(file, []byte(inA.cgroup), 0o644))
	wantRefusal(t, c.Check(context.Background()), "its cgroups changed")
}

func TestCheckSeesAnotherInstance(t *testing.T) {
	w, id, c, _, conn := named(t)
	dir := w.dir + "/cgroup/unified/docker/"
	w.must(os.Rename(dir+idA, dir+"old"), os.Mkdir(dir+idA, 0o755))
	wantRefusal(t, c.Check(context.Background()), "removed or replaced")
	refused(t, id, conn.UnixConn, "removed or replaced") // its first process is not in the new cgroup
	w.must(os.Remove(dir + idA))
	c.failed = nil
	wantRefusal(t, c.Check(context.Background()), "removed or replaced")
}

// The caller ends, or the container's first process ends while the caller lives
// on (in a container with the host's pid namespace). The files of the world
// stay.
func TestCheckSeesAnEnd(t *testing.T) {
	for _, who := range []string{"caller", "first"} {
		t.Run(who, func(t *testing.T) {
			w, l := newWorld(t), listen(t)
			caller, conn := startClient(t, l)
			first, firstConn := startClient(t, l)
			w.set(caller.Process.Pid, inA)
			w.set(first.Process.Pid, inA)
			w.mkdir("/unified/docker/" + idA)
			id := newIdentifier(t, w.options(declare(containerA(first.Process.Pid))))
			c := identify(t, id, conn.UnixConn)
			if who == "caller" {
				conn.tell(t, "exit")
				caller.Wait()
				refused(t, id, conn.UnixConn, "has ended")
			} else {
				firstConn.tell(t, "exit")
				first.Wait()
				refused(t, id, conn.UnixConn, "first process is not the one on record")
			}
			wantRefusal(t, c.Check(context.Background()), "has ended")
			if c.Alive() {
				t.Error("it lives")
			}
		})
	}
}

// No descriptor stays open, whichever caller was refused and for whatever
// reason.
func TestDescriptorsAreGivenBack(t *testing.T) {
	w, id, c, pid, conn := named(t)
	c.Close()
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		w.must(err)
		return len(names)
	}
	before := open()
	try := func(f fact) {
		w.set(pid, f)
		if c, err := id.Identify(context.Background(), conn.UnixConn); err == nil {
			c.Close()
		}
	}
	for range 20 {
		for _, cgroup := range []string{inA.cgroup, "", "0::/\n", "0::/docker/" + idB + "\n"} {
			for _, ns := range []string{"a", "b", "host"} {
				try(fact{cgroup: cgroup, nsPID: ns, pids: "9 1"})
				try(fact{cgroup: cgroup, nsPID: ns, root: "b"})
			}
		}
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	id.Close()
	if after := open(); after >= before {
		t.Errorf("%d descriptors before Close, %d after", before, after)
	}
}

// A connection is closed while its requests are checked, and many callers are
// identified at once. The race detector finds the faults.
func TestConcurrentUse(t *testing.T) {
	_, id, _, _, conn := named(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				c, err := id.Identify(context.Background(), conn.UnixConn)
				if err != nil {
					t.Error(err)
					return
				}
				checked := make(chan error)
				go func() { checked <- c.Check(context.Background()) }()
				c.Close()
				if err := <-checked; err != nil && !errors.Is(err, errClosed) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
