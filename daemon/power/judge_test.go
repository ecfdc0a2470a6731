package power

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// process is a process in namespaces of its own, which a shell made: like a container's
// first process, save that its root is the host's.
type process struct {
	testing.TB
	pid, pidfd int
}

// closeOthers closes what the test itself has inherited.
const closeOthers = `for f in /proc/self/fd/*; do n=${f##*/}; if test $n -gt 9; then eval "exec $n>&-"; fi; done; `

// start runs a script in namespaces of its own; the script's last act is to wait. Files are
// descriptors 3 and on.
func start(t testing.TB, script string, files ...*os.File) process {
	t.Helper()
	if os.Geteuid() != 0 {
		skipUnavailable(t, "needs root: makes namespaces")
	}
	c := exec.Command("unshare", "--mount", "--ipc", "--net", "--pid", "--uts", "--fork", "--kill-child", "--propagation", "unchanged", "bash", "-ec",
		closeOthers+script+"; echo ready; exec cat")
	c.ExtraFiles = files
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := new(strings.Builder)
	c.Stderr = said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		c.Process.Kill()
		c.Wait()
		t.Fatalf("the script said %q: %s", line, said)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.Process.Pid, c.Process.Pid))
	p := process{TB: t}
	if _, err2 := fmt.Sscan(string(children), &p.pid); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.pidfd) })
	return p
}

// docker are the facts of a container of docker's with these changes.
func docker(t testing.TB, changes ...change) Facts {
	t.Helper()
	c := config(t, "docker")
	for _, do := range changes {
		do(c)
	}
	spec, err := launch.Parse(encode(t, c), "docker")
	if err != nil {
		t.Fatal(err)
	}
	l, err := launch.Normalise(spec, dockerID, launch.Rules{}, launch.Known{})
	if err != nil {
		t.Fatal(err)
	}
	return Of(spec, l, dockerID, "/bundle")
}

// judge returns the verdict about the process, and the classes that its mounts at points
// below /run/m have: the rest of its mounts are the host's.
func (p process) judge(c Container) (Verdict, []string) {
	p.Helper()
	if c.bundle == nil {
		c.Facts = docker(p)
	}
	v, err := Host{}.Judge(p.Context(), c, Init{PID: p.pid, PIDFD: p.pidfd})
	if err != nil {
		p.Fatal(err)
	}
	j := &judge{host: Host{}, c: c, process: fmt.Sprintf("/proc/%d", p.pid), walk: walker{left: maxWalk}}
	if err := j.readMounts(); err != nil {
		p.Fatal(err)
	}
	if err := j.openRoot(); err != nil {
		p.Fatal(err)
	}
	defer unix.Close(j.root)
	j.prepare()
	for i := range j.mounts {
		if within(j.mounts[i].Point, "/run/m") {
			j.mount(&j.mounts[i])
		}
	}
	return v, distinct(j.classes)
}

// Mounts that no engine makes for a user, and those that hang who looks at them.
func TestJudgeMounts(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"shared", "data/deep", "data/sub", "plain"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/m", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		script string
		want   []string
	}{
		"a tmpfs of its own":         {"mount -t tmpfs x /run/m", nil},
		"a proc of its own":          {"mount -t proc x /run/m", []string{"unconfined:paths"}},
		"the same, read-only":        {"mount -t proc -o ro x /run/m", nil},
		"the same, with masks":       {"mount -t proc x /run/m; for p in bus fs irq sys; do mount --bind /run/m/$p /run/m/$p; mount -o remount,bind,ro /run/m/$p; done; test ! -e /run/m/sysrq-trigger || mount --bind /dev/null /run/m/sysrq-trigger", nil},
		"one mask away":              {"mount -t proc x /run/m; for p in bus fs irq; do mount --bind /run/m/$p /run/m/$p; mount -o remount,bind,ro /run/m/$p; done; test ! -e /run/m/sysrq-trigger || mount --bind /dev/null /run/m/sysrq-trigger", []string{"unconfined:paths"}},
		"a sysfs of its own":         {"mount -t sysfs x /run/m", []string{"mount:sysfs"}},
		"the same one, read-only":    {"mount -t sysfs -o ro x /run/m", nil},
		"the host's proc, read-only": {"mount --bind /proc /run/m; mount -o remount,bind,ro /run/m", []string{"mount:proc"}},
		"the host's tmpfs":           {"mount --bind /dev/shm /run/m", []string{"host-write:/dev"}},
		"FUSE that never answers":    {"mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 x /run/m", []string{"mount:fuse"}},
		"below such a FUSE":          {"mount -t tmpfs x /run/m; mkdir /run/m/a; mount -t tmpfs y /run/m/a; mkdir /run/m/a/b; mount --bind " + dir + "/plain /run/m/a/b; mount --move /run/m/a /run/m 2>/dev/null || true; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 x /run/m", []string{"host-write:/tmp", "mount:fuse"}},
		"a named FUSE":               {"mount -i -t fuse.mysecret -o fd=3,rootmode=40000,user_id=0,group_id=0 x /run/m", []string{"mount:fuse"}},
		"a covered mount":            {"mount --bind " + dir + "/plain /run/m; mount -t tmpfs x /run/m", []string{"host-write:/tmp"}},
		"covered declared data":      {"mount --bind " + dir + "/data /run/m; mount -t tmpfs x /run/m", nil},
		"a covered part of the host": {"mount --bind /etc /run/m; mount -t tmpfs x /run/m", []string{"host-write:/etc"}},
		"a covered disk of its own":  {"mount -t tmpfs x /run/m; mkdir /run/m/u /run/m/w /run/m/o; mount -t overlay -o lowerdir=/etc,upperdir=/run/m/u,workdir=/run/m/w x /run/m/o; mount -t tmpfs x /run/m/o", []string{"covered:overlay"}},
		"a namespace's file":         {"touch " + dir + "/ns; mount -t tmpfs x /run/m; touch /run/m/n; mount --bind /proc/self/ns/net /run/m/n", []string{"mount:nsfs"}},
		"an overlay":                 {"mount -t tmpfs x /run/m; mkdir /run/m/u /run/m/w /run/m/o; mount -t overlay -o lowerdir=/etc,upperdir=/run/m/u,workdir=/run/m/w x /run/m/o", []string{"mount:overlay"}},
		"/dev/null":                  {"mount -t tmpfs x /run/m; touch /run/m/n; mount --bind /dev/null /run/m/n", nil},
		"a tty of the host's":        {"mount -t tmpfs x /run/m; touch /run/m/n; mount --bind /dev/ptmx /run/m/n", nil},
		"the kernel's messages":      {"mount -t tmpfs x /run/m; touch /run/m/n; mount --bind /dev/kmsg /run/m/n", []string{"special-file:/dev"}},
		"cgroups":                    {"mount --bind $(grep -m1 '^cgroup' /proc/self/mounts | cut -d' ' -f2) /run/m", []string{"mount:cgroup"}},
		"declared data":              {"mount --bind " + dir + "/data /run/m", nil},
		"FUSE in declared data":      {"mount --bind " + dir + "/data /run/m; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 x /run/m/sub", []string{"mount:fuse"}},
		"below declared data":        {"mount --bind " + dir + "/data/deep /run/m", nil},
		"beside declared data":       {"mount --bind " + dir + "/plain /run/m", []string{"host-write:/tmp"}},
		"a part of the host, bound":  {"mount --bind /etc /run/m", []string{"host-write:/etc"}},
	} {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
			if err != nil {
				skipUnavailable(t, err.Error())
			}
			defer fuse.Close()
			p := start(t, test.script, fuse)
			_, got := p.judge(Container{Data: []string{dir + "/data"}})
			for i := range got { // the disk of this machine
				got[i] = strings.NewReplacer(":overlay", ":overlay", ":xfs", ":ext4", ":btrfs", ":ext4").Replace(got[i])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type inherited struct {
	name string
	open func() (*os.File, error)
}

// Whatever is inherited beyond standard input and outputs is a class.
func TestJudgeDescriptors(t *testing.T) {
	open := func(name string, flags int) func() (*os.File, error) {
		return func() (*os.File, error) { return os.OpenFile(name, flags, 0) }
	}
	for _, test := range []inherited{
		{"a directory", open("/etc", os.O_RDONLY)},
		{"an O_PATH directory", open("/", unix.O_PATH|os.O_RDONLY)},
		{"/dev/null", open("/dev/null", os.O_RDWR)},
		{"a namespace", open("/proc/self/ns/net", os.O_RDONLY)},
		{"a pipe", func() (*os.File, error) { r, w, err := os.Pipe(); w.Close(); return r, err }},
		{"a memfd", func() (*os.File, error) {
			fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
			return os.NewFile(uintptr(fd), "memfd"), err
		}},
		{"a pidfd", func() (*os.File, error) {
			fd, err := unix.PidfdOpen(os.Getpid(), 0)
			return os.NewFile(uintptr(fd), "pidfd"), err
		}},
		{"an epoll instance", func() (*os.File, error) {
			fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			return os.NewFile(uintptr(fd), "epoll"), err
		}},
		{"a socket", func() (*os.File, error) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			unix.Close(fds[1])
			return os.NewFile(uintptr(fds[0]), "socket"), err
		}},
	} {
		f, err := test.open()
		if err != nil {
			t.Fatal(test.name, err)
		}
		v, _ := start(t, ":", f).judge(Container{})
		f.Close()
		if !slices.Contains(v.Classes, classDescriptor) {
			t.Errorf("%s: %v", test.name, v.Classes)
		}
	}
	if v, _ := start(t, ":").judge(Container{}); slices.Contains(v.Classes, classDescriptor) {
		t.Errorf("pipes alone: %v", v.Classes)
	}
	for _, script := range []string{"exec 2>/dev/null", "exec 2>&1", "exec 2</etc/passwd", "mount -t tmpfs x /run; mkfifo /run/f; exec 2<>/run/f", "mount -t tmpfs x /run; mknod /run/n c 1 3; exec 2</run/n"} {
		if v, _ := start(t, script+`; echo ready; exec cat`).judge(Container{}); slices.Contains(v.Classes, classDescriptor) {
			t.Errorf("%s: %v", script, v.Classes)
		}
	}
	passwd, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer passwd.Close()
	if v, _ := start(t, "exec 2<&3 3<&-; echo ready; exec cat", passwd).judge(Container{}); !slices.Contains(v.Classes, classDescriptor) {
		t.Errorf("a file of the host's: %v", v.Classes)
	}
	for _, script := range []string{"exec 2</proc/version", "mount -t tmpfs x /run; mknod /run/n c 1 5; exec 2</run/n", "exec 2</etc", "exec 2</dev/zero", "exec 2<>/dev/ptmx", "exec 2</"} {
		if v, _ := start(t, script+`; echo ready; exec cat`).judge(Container{}); !slices.Contains(v.Classes, classDescriptor) {
			t.Errorf("%s: %v", script, v.Classes)
		}
	}
}

// A directory that leaked into the process from the host's mounts (CVE-2024-21626).
func TestJudgeWorkingDirectory(t *testing.T) {
	dir, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if v, _ := start(t, "cd /proc/self/fd/3", dir).judge(Container{}); !slices.Contains(v.Classes, classDirectory) {
		t.Errorf("leaked: %v", v.Classes)
	}
	if v, _ := start(t, "cd /etc").judge(Container{}); slices.Contains(v.Classes, classDirectory) {
		t.Errorf("its own: %v", v.Classes)
	}
	p := start(t, "cd /proc/self/fd/3", dir)
	v, err := Host{}.Judge(t.Context(), Container{Facts: docker(t)}, Init{PID: p.pid, PIDFD: p.pidfd, Ran: true})
	if err != nil || slices.Contains(v.Classes, classDirectory) || slices.Contains(v.Classes, classDescriptor) {
		t.Errorf("of a program that runs: %v, %v", v.Classes, err)
	}
}

// A process whose mounts are in a peer group of the host's.
func TestJudgePropagation(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("x", dir, "tmpfs", 0, ""); err != nil {
		skipUnavailable(t, err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if _, got := start(t, "mount --bind "+dir+" /run/m").judge(Container{}); !slices.Contains(got, classPropagation) {
		t.Errorf("shared: %v", got)
	}
	if _, got := start(t, "mount --bind "+dir+" /run/m; mount --make-slave /run/m").judge(Container{}); slices.Contains(got, classPropagation) {
		t.Errorf("slave: %v", got)
	}
}

func TestJudgeNamespaces(t *testing.T) {
	p, other := start(t, ":"), start(t, ":")
	path := fmt.Sprintf("/proc/%d/ns/", other.pid)
	joins := func(kind, file string) change {
		return func(c map[string]any) {
			without("linux.namespaces", "type", kind)(c)
			add("linux.namespaces", map[string]any{"type": kind, "path": path + file})(c)
		}
	}
	namespaces := func(c Container, pid process) []string {
		v, _ := pid.judge(c)
		return slices.DeleteFunc(v.Classes, func(class string) bool {
			return !strings.HasPrefix(class, classNamespace) && !strings.HasPrefix(class, classJoined)
		})
	}
	if got := namespaces(Container{}, p); len(got) > 0 {
		t.Errorf("its own: %v", got)
	}
	host := process{t, os.Getpid(), 0}
	var err error
	if host.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(host.pidfd)
	if got := namespaces(Container{}, host); !slices.Equal(got, []string{"namespace:ipc", "namespace:mount", "namespace:network", "namespace:pid", "namespace:uts"}) {
		t.Errorf("the host's: %v", got)
	}
	others := func(list ...Other) func(context.Context) ([]Other, error) {
		return func(context.Context) ([]Other, error) { return list, nil }
	}
	facts := docker(t, joins("network", "net"), joins("ipc", "ipc"))
	for name, test := range map[string]struct {
		others []Other
		want   []string
	}{
		"another's":                     {[]Other{{PID: other.pid}}, []string{"joined:ipc", "joined:network"}},
		"by the engine's record":        {[]Other{{PID: other.pid, Network: true}}, []string{"joined:ipc"}},
		"of its pod":                    {[]Other{{PID: other.pid, Pod: true}}, nil},
		"of its pod, and of one more":   {[]Other{{PID: other.pid}, {PID: other.pid, Pod: true}}, nil},
		"nobody's":                      {nil, []string{"namespace:ipc", "namespace:network"}},
		"another's that it hasn't":      {[]Other{{PID: os.Getpid(), Network: true}}, []string{"namespace:ipc", "namespace:network"}},
		"another's that isn't any more": {[]Other{{PID: 1 << 22, Network: true}}, []string{"namespace:ipc", "namespace:network"}},
	} {
		if got := namespaces(Container{Facts: facts, Others: others(test.others...)}, other); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// Devices below /dev that no engine makes by itself.
func TestJudgeDevices(t *testing.T) {
	v, _ := start(t, "mount -t tmpfs x /dev; mkdir /dev/net; mknod /dev/null c 1 3; mknod /dev/net/tun c 10 200; mknod /dev/disk b 254 0; mknod /dev/zero c 1 5").judge(Container{})
	got := slices.DeleteFunc(v.Classes, func(class string) bool { return !strings.HasPrefix(class, classDevice) })
	if !slices.Equal(got, []string{"device:b:254:0", "device:c:10:200"}) {
		t.Error(got)
	}
}

func TestJudgeCapabilities(t *testing.T) {
	for set, want := range map[uint64][]string{
		0:                             nil,
		1 << unix.CAP_CHOWN:           nil,
		0xa80425fb:                    nil, // docker's
		1 << unix.CAP_BPF:             {"capability:CAP_BPF"},
		1<<63 | 1<<unix.CAP_SYS_ADMIN: {"capability:CAP_SYS_ADMIN", "capability:other"},
	} {
		if got := capabilitiesOf(set); !slices.Equal(got, want) {
			t.Errorf("%x: %v", set, got)
		}
	}
	if len(capabilityNames) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names", len(capabilityNames))
	}
}

// Nothing is said of a process that ended meanwhile, or once the deadline passed.
func TestJudgeEnded(t *testing.T) {
	p := start(t, ":")
	syscall.Kill(p.pid, syscall.SIGKILL)
	for range 1000 {
		if _, err := (Host{}).Judge(t.Context(), Container{Facts: docker(t)}, Init{PID: p.pid, PIDFD: p.pidfd}); err != nil {
			return
		}
	}
	t.Error("a process that ended was judged")
}

// A pid that is another process's by now: the pidfd tells.
func TestJudgeAnother(t *testing.T) {
	p := start(t, ":")
	ended := exec.Command("true")
	var pidfd int
	ended.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if v, err := (Host{}).Judge(t.Context(), Container{Facts: docker(t)}, Init{PID: p.pid, PIDFD: pidfd}); !errors.Is(err, procfs.ErrEnded) {
		t.Error(v, err)
	}
}

func TestJudgeDeadline(t *testing.T) {
	p := start(t, ":")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := (Host{}).Judge(ctx, Container{Facts: docker(t)}, Init{PID: p.pid, PIDFD: p.pidfd}); err == nil {
		t.Error(v)
	}
}
