package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// world is a fake /proc and /sys/fs/cgroup for real processes on real sockets.
type world struct {
	testing.TB
	dir string
}

// fact is what the world says of one process.
type fact struct {
	cgroup string
	nsPID  string // the pid namespace's name
	pids   string // the NSpid line
	root   string // the root directory's name
	start  uint64
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{t, t.TempDir()}
	pid := strconv.Itoa(os.Getpid())
	w.must(os.MkdirAll(w.dir+"/proc", 0o755), os.MkdirAll(w.dir+"/cgroup/unified", 0o755),
		os.MkdirAll(w.dir+"/cgroup/memory", 0o755), os.Symlink(pid, w.dir+"/proc/self"))
	w.set(os.Getpid(), fact{cgroup: "0::/system.slice/cimad.service\n"})
	return w
}

func (w world) must(errs ...error) {
	w.Helper()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
}

// set writes /proc/PID; what is not said is as on the host.
func (w world) set(pid int, f fact) {
	w.Helper()
	if f.nsPID == "" {
		f.nsPID = "host"
	}
	if f.root == "" {
		f.root = "host"
	}
	if f.pids == "" {
		f.pids = strconv.Itoa(pid)
	}
	dir := fmt.Sprintf("%s/proc/%d", w.dir, pid)
	ns, root := filepath.Join(w.dir, "ns-"+f.nsPID), filepath.Join(w.dir, "root-"+f.root)
	w.must(os.RemoveAll(dir), os.MkdirAll(dir+"/ns", 0o755), os.MkdirAll(root, 0o755),
		os.WriteFile(ns, nil, 0o644), os.Symlink(ns, dir+"/ns/pid"), os.Symlink(root, dir+"/root"),
		os.WriteFile(dir+"/cgroup", []byte(f.cgroup), 0o644),
		os.WriteFile(dir+"/status", []byte("Name:\tx\nNSpid:\t"+f.pids+"\n"), 0o644),
		os.WriteFile(dir+"/stat", fmt.Appendf(nil, "%d (x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", pid, f.start), 0o644))
}

// mkdir makes a cgroup.
func (w world) mkdir(path string) {
	w.Helper()
	w.must(os.MkdirAll(w.dir+"/cgroup"+path, 0o755))
}

func (w world) options(r Records) Options {
	return Options{Records: r, procRoot: w.dir + "/proc", cgroupRoot: w.dir + "/cgroup"}
}

// inA is a process of container A, whose first process is pid init.
var inA = fact{cgroup: "4:memory:/docker/" + idA + "\n0::/docker/" + idA + "\n", nsPID: "a", pids: "9 1", root: "a", start: 77}

func containerA(init int) Container {
	return Container{ID: idA, Runtime: "docker", CgroupPath: "/docker/" + idA, InitPID: init, InitStart: 77}
}
