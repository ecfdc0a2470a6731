package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections of one process share a watch, which the last one closes. A
// process that has changed is refused on all of them.
func TestConnectionsShareAWatch(t *testing.T) {
	w, id, c, pid, conn := named(t)
	again := identify(t, id, conn.UnixConn)
	if again.processWatch != c.processWatch || c.users.Load() != 2 {
		t.Fatalf("watches %p and %p, %d users", c.processWatch, again.processWatch, c.users.Load())
	}
	c.Close()
	wantRefusal(t, c.Check(context.Background()), "closed")
	if err := again.Check(context.Background()); err != nil || !again.Alive() {
		t.Fatalf("after the other's end: %v, alive %t", err, again.Alive())
	}
	third := identify(t, id, conn.UnixConn)
	file := fmt.Sprintf("%s/proc/%d/cgroup", w.dir, pid)
	w.must(os.WriteFile(file, []byte(inA.cgroup+"x"), 0o644))
	wantRefusal(t, third.Check(context.Background()), "its cgroups changed")
	w.must(os.WriteFile(file, []byte(inA.cgroup), 0o644))
	wantRefusal(t, again.Check(context.Background()), "its cgroups changed")

	fresh := identify(t, id, conn.UnixConn) // the process is back in its cgroup
	if fresh.processWatch == again.processWatch {
		t.Fatal("a watch that failed is used again")
	}
	again.Close()
	third.Close()
	if id.watches.byPID[pid] != fresh.processWatch {
		t.Error("the old watch took the new one with it")
	}
	fresh.Close()
	if n := len(id.watches.byPID); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// A process that has moved, or that has another first process, gets a watch of
// its own.
func TestWatchesOfOthersAreNotShared(t *testing.T) {
	_, id, c, pid, conn := named(t)
	for name, change := range map[string]func(b *processWatch){
		"cgroups":   func(b *processWatch) { b.cgroup.text += "x" },
		"cgroup id": func(b *processWatch) { b.cgroup.id++ },
		"first":     func(b *processWatch) { b.initProcess = nil },
		"path":      func(b *processWatch) { b.path = "/other" },
		"inode":     func(b *processWatch) { b.cgroupInode++ },
		"pid":       func(b *processWatch) { b.pid++ },
	} {
		b := &processWatch{watches: &id.watches, pid: pid, pidfd: -1, cgroup: cgroupWatch{fd: 0, text: c.cgroup.text, id: c.cgroup.id},
			initProcess: c.initProcess, path: c.path, cgroupInode: c.cgroupInode}
		if c.cgroup.fd < 0 {
			b.cgroup.fd = -1
		}
		if !c.processWatch.same(b) {
			t.Fatal("the same is not the same")
		}
		change(b)
		if id.watches.byPID[b.pid] == c.processWatch && c.processWatch.same(b) {
			t.Errorf("shared in spite of another %s", name)
		}
	}
	conn.tell(t, "exit")
	waitFor(t, "the end of the client", func() bool { return !c.Alive() })
	if c.processWatch.same(c.processWatch) {
		t.Error("shared after the end of the process")
	}
}

// An inspection that began before a request does not count for it: a caller
// that knows that the process has moved gets a refusal, however many calls
// there are.
func TestInspectionsBeginAfterTheRequest(t *testing.T) {
	w, id, c, pid, conn := named(t)
	file, err := os.OpenFile(fmt.Sprintf("%s/proc/%d/cgroup", w.dir, pid), os.O_WRONLY, 0)
	w.must(err)
	defer file.Close()
	put := func(b byte) { // during an inspection, if may be
		_, err := file.WriteAt([]byte{b}, 0)
		w.must(err)
	}
	var callers []*Caller
	for range 8 {
		callers = append(callers, identify(t, id, conn.UnixConn))
	}
	rounds := 2000
	if testing.Short() {
		rounds = 500
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range rounds {
		var moved atomic.Bool
		var all sync.WaitGroup
		for _, caller := range callers {
			all.Go(func() {
				for {
					known := moved.Load()
					err := caller.Check(context.Background())
					if known && err == nil {
						t.Error("a process that had moved passed")
					}
					if known || t.Failed() {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond)
		put('x')
		moved.Store(true)
		all.Wait()
		put(inA.cgroup[0])
		c.failed = nil
	}
}
