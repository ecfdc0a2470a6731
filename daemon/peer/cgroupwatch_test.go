package peer

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// With cgroup v2 alone a caller is watched by its cgroup's id. This uses the
// unified hierarchy of the machine, whatever else is mounted.
func TestWatchByCgroupID(t *testing.T) {
	dir := ""
	for _, try := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if magic, err := fsMagic(try); err == nil && magic == unix.CGROUP2_SUPER_MAGIC {
			dir = try
		}
	}
	if dir == "" || os.Getuid() != 0 {
		leaveOut(t, "making cgroups needs root and cgroup v2")
	}
	if id := newIdentifier(t, Options{}); !id.kernel.pidfdInfo {
		leaveOut(t, "the kernel has no PIDFD_GET_INFO (Linux 6.13)")
	}
	cmd, conn := startClient(t, listen(t))
	p := openTest(t, cmd.Process.Pid)
	path := [2]string{}
	join := func(i int) {
		t.Helper()
		if err := os.WriteFile(dir+path[i]+"/cgroup.procs", fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range path {
		path[i] = fmt.Sprintf("/cima-peer-test-%d-%d", os.Getpid(), i)
		if err := os.Mkdir(dir+path[i], 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir + path[i]) })
	}
	t.Cleanup(func() { // runs before the removals
		cmd.Process.Kill()
		cmd.Wait()
	})
	roots, layout, err := newRoots(dir)
	if err != nil || layout != "v2" {
		t.Fatal(layout, err)
	}
	defer roots.close()

	watch := func(path string) (cgroupWatch, error) {
		t.Helper()
		w, err := watchCgroup(p)
		if err != nil {
			t.Fatal(err)
		}
		err = w.useID(p.pidfd, roots, hierarchy{path: path})
		if err != nil {
			w.close()
		}
		return w, err
	}
	join(0)
	w, err := watch(path[0])
	if err != nil || w.fd != -1 || w.id != inode(t, dir+path[0]) {
		t.Fatalf("%+v, %v", w, err)
	}
	if err := w.unchanged(p.pidfd); err != nil {
		t.Error(err)
	}
	join(1)
	if err := w.unchanged(p.pidfd); !errors.Is(err, errMoved) {
		t.Errorf("moved: %v", err)
	}
	// The process moved after its path was read and before its cgroup's id was.
	if w, err := watch(path[0]); !errors.Is(err, errMoved) {
		t.Errorf("moved before: %+v, %v", w, err)
	}
	join(0)
	if err := w.unchanged(p.pidfd); err != nil {
		t.Errorf("back again: %v", err)
	}
	conn.tell(t, "exit")
	cmd.Wait()
	if err := w.unchanged(p.pidfd); err == nil {
		t.Error("a process that ended is where it was")
	}
}
