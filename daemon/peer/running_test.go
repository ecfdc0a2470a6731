package peer

import (
	"os"
	"testing"
)

// A container is the same instance before and after a process in it has called,
// until another cgroup has its path.
func TestRunning(t *testing.T) {
	w, id, c, pid, _ := named(t)
	r, err := id.Running(t.Context(), containerA(pid))
	if err != nil || r.CgroupInode != c.CgroupInode || r.CgroupOwner != c.CgroupOwner {
		t.Errorf("%+v, %v; the caller's cgroup inode is %d", r, err, c.CgroupInode)
	}
	dir := w.dir + "/cgroup/unified/docker/"
	w.must(os.Rename(dir+idA, dir+"old"), os.Mkdir(dir+idA, 0o755))
	_, err = id.Running(t.Context(), containerA(pid))
	wantRefusal(t, err, "removed or replaced")
	_, err = id.Running(t.Context(), containerA(0))
	wantRefusal(t, err, "not recorded as started")
}
