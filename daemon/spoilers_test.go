package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/logs"
)

// spoilers are what a container without power does to its own files, so that its next start
// would be announced to all: nobody's verdict would be good for the rest of the boot.
type spoiler struct {
	what   string
	flags  []string // beside /srv/data at /data/x and /srv/other at /other
	script string
}

var spoilers = []spoiler{
	{"a mount of the engine's over another", nil, "mv /etc /moved || exit 0; mkdir /etc; ln -s hosts /etc/hostname; ln -s hosts /etc/resolv.conf; ln -s /run /moved/run"},
	{"a FIFO in its data", nil, "mkfifo /data/x/fifo"},
	{"devices in its data", nil, "mknod /data/x/disk b 8 0; mknod /data/x/null c 1 3; chmod 666 /data/x/*"},
	{"many files in its data", nil, "i=0; while [ $i -lt 20100 ]; do : >/data/x/$i; i=$((i+1)); done"},
	{"a closed directory in its data", nil, "mkdir -p /data/x/a/b; chmod 0 /data/x/a"},
	{"a deep tree in its data", nil, "cd /data/x; i=0; while [ $i -lt 200 ]; do mkdir d; cd d; i=$((i+1)); done"},
	{"a FIFO in what is mounted by its name", []string{"-v", "/srv/data/file:/one"}, "rm /data/x/file; mkfifo /data/x/file"},
	{"a device in what is mounted by its name", []string{"-v", "/srv/data/file:/one"}, "rm /data/x/file; mknod /data/x/file b 8 0"},
	{"one mount over another", nil, "mv /data /moved; mkdir /data; ln -s /other /data/x"},
	{"one mount over another, by a volume", []string{"-v", "spoilt:/volume/x", "-v", "/anonymous"}, "mv /volume /moved; mkdir /volume; ln -s /anonymous /volume/x"},
	{"a mount over the engine's files", nil, "mv /data /moved; mkdir /data; ln -s /etc /data/x"},
	{"a mount over cima's directory", nil, "mv /data /moved; mkdir /data; ln -s /run/cima /data/x"},
	{"a mount over what holds cima's directory", nil, "mv /data /moved; mkdir /data; ln -s /run /data/x"},
	{"a mount over devices", nil, "mv /data /moved; mkdir /data; ln -s /dev /data/x"},
	{"a mount over cgroups", nil, "mv /data /moved; mkdir /data; ln -s /sys/fs/cgroup /data/x"},
	{"a mount over the kernel's objects", nil, "mv /data /moved; mkdir /data; ln -s /sys /data/x"},
	{"a mount over processes", nil, "mv /data /moved; mkdir /data; ln -s /proc/sys /data/x"},
	{"a mount over the root", nil, "mv /data /moved; mkdir /data; ln -s / /data/x"},
	{"a link in its data, for a mount below", []string{"-v", "/srv/other:/data/x/sub/deep"}, "mv /data/x/sub /data/x/old; ln -s /etc /data/x/sub"},
	{"the working directory is a link", []string{"-w", "/work"}, "rmdir /work; ln -s /proc/self/fd/0 /work"},
	{"the working directory is a mount", []string{"-w", "/work"}, "rmdir /work; ln -s /data/x /work"},
	{"nobody may enter its root", []string{"-u", "1000"}, "chmod 0 /"},
	{"its program is a FIFO", nil, "rm /bin/busybox; mkfifo /bin/busybox"},
	{"its program is a link to itself", nil, "rm /bin/busybox; ln -s busybox /bin/busybox"},
	{"its program is large", nil, "cp /bin/busybox /busybox; /busybox rm /bin/busybox; /busybox cp /busybox /bin/busybox; /busybox dd if=/dev/zero of=/bin/busybox bs=1 count=1 seek=268435455 conv=notrunc"},
	{"a mount over devices, with files", nil, "mv /data /moved; mkdir /data; ln -s /dev /data/x; for f in null zero full tty console ptmx stdin stdout stderr shm; do echo x >/moved/x/$f; done"},
	{"a mount over devices, with FIFOs", nil, "mv /data /moved; mkdir /data; ln -s /dev /data/x; for f in zero full tty console; do mkfifo /moved/x/$f; done"},
	{"a mount over devices, with links", nil, "mv /data /moved; mkdir /data; ln -s /dev /data/x; for f in null zero full; do ln -s /etc/hosts /moved/x/$f; done; ln -s /etc /moved/x/shm; ln -s /proc /moved/x/pts"},
}

// A container without power changes its files and starts again. Nothing is announced.
func TestSpoilers(t *testing.T) {
	f := gateFixture(t)
	needShell(t)
	f.declaredData("data", "other")
	root, err := shell()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		engine, image string
		do            func(args ...string) (string, error)
		every         int // that is run without -whole; 0: none
	}{
		{"docker", shellImage, func(args ...string) (string, error) {
			out, err := exec.Command("docker", args...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return strings.TrimSpace(string(out)), err
		}, 1},
		{"podman with crun", podmanImage, podmanWith(t, "crun", root.Folder("/work", 0o755)), 7},
		{"podman with runc", podmanImage, podmanWith(t, "runc", root), 0},
	} {
		for i, s := range spoilers {
			if !*whole && (x.every == 0 || i%x.every != 0) {
				continue
			}
			t.Run(x.engine+": "+s.what, func(t *testing.T) { f.spoils(t, s, x.image, x.do) })
		}
	}
}

func (f *fixture) spoils(t *testing.T, s spoiler, image string, do func(args ...string) (string, error)) {
	for _, dir := range []string{"data", "other"} {
		if err := os.RemoveAll("/srv/" + dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join("/srv", dir, "sub/deep"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/srv/data/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := len(f.announced())
	args := append([]string{"run", "-d", "--network", "none", "-v", f.socketMount(), "-v", "/srv/data:/data/x", "-v", "/srv/other:/other"}, s.flags...)
	id, err := do(append(args, image, "/bin/busybox", "sleep", "600")...)
	if err != nil {
		t.Fatal(err)
	}
	defer do("rm", "-f", "-v", id)
	if _, err := do("exec", "-u", "0", id, "/bin/busybox", "sh", "-ec", s.script); err != nil {
		t.Fatal(err)
	}
	if _, err := do("kill", id); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "it is stopped", func() bool {
		running, err := do("inspect", "--format", "{{.State.Running}}", id)
		return err == nil && running == "false"
	})
	if _, err := do("start", id); err != nil {
		t.Logf("it did not start: %v", err)
	} else if start := f.startOfContainer(id); start != logs.StartGated {
		t.Errorf("start %q", start)
	}
	if all := f.announced()[before:]; len(all) != 0 {
		t.Errorf("announced to all: %q", all)
	}
	if n := f.daemon.containers.Counts.Missed.Load(); n != 0 {
		t.Errorf("%d runtimes were missed", n)
	}
}

// declaredData makes directories of declared data, on a disk, at /srv.
func (f *fixture) declaredData(dirs ...string) {
	f.t.Helper()
	data := filepath.Join(f.dir, "srv")
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := unix.Mount(data, "/srv", "", unix.MS_BIND, ""); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { unix.Unmount("/srv", unix.MNT_DETACH) })
}

// A container that has used up its share of the log starts again: nothing is announced, no
// runtime was missed, and another's evidence is as it was.
func TestSpentContainerStartsAgain(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) {
		c.Exec.Mode, c.Limits.EventsPerContainer = config.ExecMeasure, 20
	})
	other := f.shell()
	id := f.shell()
	if out, err := inside(id, "i=0; while [ $i -lt 25 ]; do cp /bin/busybox /busybox-$i; echo $i >>/busybox-$i; /busybox-$i true; i=$((i+1)); done"); err == nil {
		t.Logf("its programs: %s", out)
	}
	for range 3 {
		docker(t, "restart", "-t", "0", id)
		if out, err := exec.Command("docker", "exec", id, "/bin/cimactl", "evidence", "--nonce", "0011223344556677").CombinedOutput(); err == nil || !strings.Contains(string(out), "runtime log is full") {
			t.Errorf("its evidence: %v: %.200s", err, out)
		}
	}
	f.wantQuiet()
	for _, e := range f.events() {
		if e.Operation == logs.OpMissed {
			t.Errorf("to all: %s", e.Body())
		}
	}
	f.wantAuthentic(evidenceFrom(t, other))
	f.wantGated(1)
}
