package peer

import (
	"fmt"
	"os"
	"testing"
)

// A first process that was proved is not proved again while it lives, and the
// descriptors of first processes that ended are closed.
func TestFirstProcessesAreKept(t *testing.T) {
	w, id, c, pid, conn := named(t)
	w.must(os.WriteFile(fmt.Sprintf("%s/proc/%d/stat", w.dir, pid), []byte("broken"), 0o644))
	again := identify(t, id, conn.UnixConn)
	if again.initProcess != c.initProcess || c.initProcess.refs.Load() != 2 { // one reference is the Identifier's
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
