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

// named is the usual caller of container A, in a world that can be changed.
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

func TestCheckSeesAMove(t *testing.T) {
	w, _, c, pid, _ := named(t)
	file := fmt.Sprintf("%s/proc/%d/cgroup", w.dir, pid)
	for _, now := range []string{inA.cgroup + "x", inA.cgroup[1:], strings.Replace(inA.cgroup, "a1", "a2", 1)} {
		c.failed = nil
		w.must(os.WriteFile(file, []byte(now), 0o644))
		wantRefusal(t, c.Check(context.Background()), "its cgroups changed")
	}
	// Back again it stays refused: who knows what it was meanwhile.
	w.must(os.WriteFile(file, []byte(inA.cgroup), 0o644))
	wantRefusal(t, c.Check(context.Background()), "its cgroups changed")
}

func TestCheckSeesAnotherInstance(t *testing.T) {
	w, id, c, _, conn := named(t)
	dir := w.dir + "/cgroup/unified/docker/"
	w.must(os.Rename(dir+idA, dir+"old"), os.Mkdir(dir+idA, 0o755))
	wantRefusal(t, c.Check(context.Background()), "removed or replaced")
	refused(t, id, conn.UnixConn, "removed or replaced") // its first process is not in the new one
	w.must(os.Remove(dir + idA))
	c.failed = nil
	wantRefusal(t, c.Check(context.Background()), "removed or replaced")
}

// The caller ends, or the container's first process while the caller lives on
// (in a container with the host's pid namespace). The world's files stay.
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

// A first process that was proved is not proved again while it lives, and the
// descriptors of those that ended are given back.
func TestFirstProcessesAreKept(t *testing.T) {
	w, id, c, pid, conn := named(t)
	w.must(os.WriteFile(fmt.Sprintf("%s/proc/%d/stat", w.dir, pid), []byte("broken"), 0o644))
	again := identify(t, id, conn.UnixConn)
	if again.initProcess != c.initProcess || c.initProcess.refs.Load() != 2 { // one is the Identifier's
		t.Errorf("%p and %p, %d references", again.initProcess, c.initProcess, c.initProcess.refs.Load())
	}
	again.Close()
	f := c.initProcess
	conn.tell(t, "exit")
	waitFor(t, "the end of the client", func() bool { return !c.Alive() })
	id.cacheInit(at(idB, "/b"), &initProcess{pidfd: -1})
	if _, ok := id.inits[containerA(pid)]; ok || f.refs.Load() != 1 {
		t.Errorf("kept %t, %d references", ok, f.refs.Load())
	}
	delete(id.inits, at(idB, "/b"))
}

func TestFirstProcessesAreBounded(t *testing.T) {
	id := &Identifier{inits: map[Container]*initProcess{}}
	p := openTest(t, os.Getpid())
	for i := range maxInits + 10 {
		f := &initProcess{pidfd: p.pidfd}
		f.refs.Store(1)
		id.inits[Container{InitPID: -1 - i}] = f
		if len(id.inits) == maxInits {
			break
		}
	}
	f := &initProcess{pidfd: p.pidfd}
	f.refs.Store(1)
	id.cacheInit(containerA(1), f)
	if len(id.inits) != maxInits || f.refs.Load() != 1 {
		t.Errorf("%d kept, %d references", len(id.inits), f.refs.Load())
	}
}

// Nothing is left open, whoever was refused and wherever.
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

// A connection is closed while its requests are being checked, and many are
// identified at once. The race detector does the rest.
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
