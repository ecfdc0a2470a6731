package daemon

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

const someUser = 61234

// usersContainer is a rootless engine's container, made by the test: cgroups,
// record and first process.
type usersContainer struct {
	t      *testing.T
	id     string
	cgroup string
	home   string
	init   *exec.Cmd
	mounts []string
}

// startUsers makes a user's container, and starts it.
func startUsers(t *testing.T, home, digit string) *usersContainer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to make cgroups")
	}
	c := &usersContainer{t: t, id: strings.Repeat(digit, 64), home: home}
	c.cgroup = fmt.Sprintf("/user.slice/user-%d.slice/user@%[1]d.service/user.slice/libpod-%s.scope", someUser, c.id)
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		c.mounts = append(c.mounts, filepath.Dir(f))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		c.mounts = []string{"/sys/fs/cgroup"}
	}
	c.init = exec.Command("/bin/sleep", "1000")
	c.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := c.init.Start(); err != nil {
		t.Skip("left out: no pid namespace:", err)
	}
	t.Cleanup(c.end)
	for _, mount := range c.mounts {
		c.enter(mount)
	}
	c.record()
	return c
}

// enter makes the container's cgroup in one hierarchy, owned by the user from
// the manager down, and puts the first process there.
func (c *usersContainer) enter(mount string) {
	c.t.Helper()
	dir := mount
	for name := range strings.SplitSeq(c.cgroup[1:], "/") {
		above := dir
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			c.t.Skip("left out: no cgroups can be made:", err)
		}
		if strings.HasSuffix(mount, "cpuset") {
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				text, _ := os.ReadFile(filepath.Join(above, name))
				os.WriteFile(filepath.Join(dir, name), text, 0o644)
			}
		}
		if strings.HasPrefix(name, "user@") || strings.Contains(dir, "/user@") {
			if err := os.Chown(dir, someUser, someUser); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, c.init.Process.Pid), 0o644); err != nil {
		c.t.Fatalf("%s: %v", dir, err)
	}
}

func (c *usersContainer) record() {
	c.t.Helper()
	pid := c.init.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		c.t.Fatal(err)
	}
	started := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	for path, text := range map[string]string{
		"containers/" + c.id + "/userdata/config.json": fmt.Sprintf(`{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/bin/sleep"],"cwd":"/"},`+
			`"root":{"path":"rootfs"},"linux":{"cgroupsPath":%q,"namespaces":[{"type":"mount"},{"type":"pid"}]}}`, c.cgroup),
		"run/" + c.id + "/state.json": fmt.Sprintf(`{"id":%q,"init_process_pid":%d,"init_process_start":%s,"cgroup_paths":{"":%q}}`,
			c.id, pid, started, "/sys/fs/cgroup"+c.cgroup),
	} {
		path = filepath.Join(c.home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := filepath.Walk(c.home, func(name string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, someUser, someUser)
	}); err != nil {
		c.t.Fatal(err)
	}
}

// end ends the first process and removes the cgroups; the record stays.
func (c *usersContainer) end() {
	if c.init == nil {
		return
	}
	c.init.Process.Kill()
	c.init.Wait()
	c.init = nil
	for _, mount := range c.mounts {
		dir := filepath.Join(mount, c.cgroup)
		for range strings.Count(c.cgroup, "/") {
			os.Remove(dir) // fails if another cgroup is in it
			dir = filepath.Dir(dir)
		}
	}
}

// call has the container measured, as a call from it does.
func (c *usersContainer) call(f *fixture) error {
	c.t.Helper()
	rec, ok, err := f.daemon.store().Declared(c.t.Context(), "", c.cgroup)
	if err != nil || !ok {
		c.t.Fatalf("its record is not found: %v", err)
	}
	p := containers.PeerContainer(rec)
	r, err := f.daemon.peers.Running(c.t.Context(), p)
	if err != nil {
		c.t.Fatalf("%v: %+v", err, err)
	}
	i := f.daemon.containers.Use(p, r.CgroupInode, r.CgroupOwner)
	defer f.daemon.containers.Release(i)
	_, err = f.daemon.containers.Facts(c.t.Context(), i, func(ctx context.Context) error { return f.daemon.containers.CheckRuns(ctx, i) })
	return err
}

// usersFixture sees the containers of one user, and no others.
func usersFixture(t *testing.T, configure ...func(*config.Config)) (f *fixture, home string) {
	home = filepath.Join(t.TempDir(), "home")
	return startFixture(t, records.New(records.Options{
		Places: []records.Place{{Runtime: "podman", Config: "{home}/containers/{id}/userdata/config.json", States: []string{"{home}/run/{id}/state.json"}}},
		Users:  func() map[uint32]string { return map[uint32]string{someUser: home} },
	}), configure...), home
}

// A user's container that called once has its end in the log, whichever daemon
// sees the end: the one that it called, one started after that, or one started
// after its end.
func TestEndsOfUsersContainers(t *testing.T) {
	f, home := usersFixture(t, func(c *config.Config) { c.Launch.ImageDeadline = 1 })
	for digit, c := range map[string]struct{ before, after bool }{
		"a": {false, false}, "b": {true, false}, "c": {true, true},
	} {
		u := startUsers(t, home, digit)
		owner := fmt.Sprintf("%d/%s", someUser, u.id)
		if err := u.call(f); err != nil {
			t.Fatal(err)
		}
		if got := f.operations(owner); got != "launch image" {
			t.Fatalf("logged of %s: %q", digit, got)
		}
		if c.before {
			f.stop()
			if c.after {
				u.end()
			}
			f.start()
			time.Sleep(4 * endsAfter)
			if got := f.operations(owner); !c.after && got != "launch image" {
				t.Errorf("the container runs, and the log has %q", got)
			}
		}
		u.end()
		daemontest.Eventually(t, "the end of "+digit+" is logged", func() bool { return f.operations(owner) == "launch image exit" })
	}
	f.restart()
	time.Sleep(4 * endsAfter)
	exits := 0
	for _, e := range f.events() {
		if e.Operation == logs.OpExit {
			exits++
		}
	}
	if exits != 3 {
		t.Errorf("%d exits of 3 containers", exits)
	}
}

// A container that ended before its image was known has its end in the log,
// too.
func TestEndOfAUsersContainerWithoutImage(t *testing.T) {
	f, home := usersFixture(t)
	u := startUsers(t, home, "d")
	if err := u.call(f); err == nil {
		t.Fatal("its image is known")
	}
	u.end()
	daemontest.Eventually(t, "its end is logged", func() bool { return f.operations(fmt.Sprintf("%d/%s", someUser, u.id)) == "launch exit" })
}
