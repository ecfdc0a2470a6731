package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cima-project/cima/packaging/test/engine"
)

const dockerImage = "cima-peer-test:1"

// docker is a test in containers: an identifier with docker's own records, and
// a socket that the containers see.
type docker struct {
	testing.TB
	engine *engine.Engine
	id     *Identifier
	socket
}

func newDocker(t testing.TB) docker {
	t.Helper()
	e, err := engine.Docker()
	if err != nil {
		leaveOut(t, err.Error())
	}
	if err := imported(); err != nil {
		t.Fatal(err)
	}
	return docker{t, e, newIdentifier(t, Options{Records: bundles{}}), listen(t)}
}

// imported reports whether there is an image with the client alone.
var imported = sync.OnceValue(func() error {
	e, err := engine.Docker()
	if err != nil {
		return err
	}
	return e.Import(context.Background(), dockerImage, engine.NewImage().File("/client", clientPath))
})

// command runs the docker client and returns its output.
func (d docker) command(args ...string) string {
	d.Helper()
	out, err := d.engine.Do(context.Background(), "", args...)
	if err != nil {
		d.Fatal(err)
	}
	return out
}

// start starts a container whose client connects, and returns its id and that
// connection.
func (d docker) start(options []string, words ...string) (string, *client) {
	d.Helper()
	args := append([]string{"create", "--network", "none", "--label", "cima-peer-test", "-v", d.dir + ":/run/cima:ro"}, options...)
	args = append(append(append(args, dockerImage, "/client"), words...), "/run/cima/s")
	container := d.command(args...)
	d.Cleanup(func() { d.engine.Command(context.Background(), "rm", "-f", container).Run() })
	d.command("start", container)
	return container, d.accept(d)
}

// named fails the test unless the caller is that container.
func (d docker) named(conn *client, container string) *Caller {
	d.Helper()
	c := identify(d, d.id, conn.UnixConn)
	if c.Container == nil || c.Container.ID != container {
		d.Fatalf("named %+v, want container %s", c.Container, container)
	}
	if c.CgroupInode == 0 || c.CgroupOwner != 0 || !c.PIDFD && d.id.kernel.peerPIDFD {
		d.Fatalf("cgroup inode %d, cgroup owner %d, pidfd %t", c.CgroupInode, c.CgroupOwner, c.PIDFD)
	}
	if err := c.Check(context.Background()); err != nil {
		d.Fatalf("check: %v (%v)", err, cause(err))
	}
	return c
}

// cgroupOf returns the path that docker gave a container.
func (d docker) cgroupOf(container string) string {
	d.Helper()
	c, err := bundles{}.read(container)
	if err != nil {
		d.Fatal(err)
	}
	return c.CgroupPath
}

// ownCgroups are the options of the attack: a writable view of the host's
// cgroups, and no other privilege.
var ownCgroups = []string{"--cgroupns=host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"}

// hierarchies are the v1 hierarchies' directories; only these can rename.
func (d docker) hierarchies() []string {
	var dirs []string
	for _, own := range d.id.rule.own {
		if own.controllers != "" {
			first, _, _ := strings.Cut(strings.TrimPrefix(own.controllers, "name="), ",")
			dirs = append(dirs, filepath.Join("/sys/fs/cgroup", first))
		}
	}
	return dirs
}

func rename(t testing.TB, dir, from, to string) {
	t.Helper()
	if err := os.Rename(dir+from, dir+to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// bundles reads docker's records: the bundles in containerd's directory, as
// package records does in full.
type bundles struct{}

func (b bundles) Declared(_ context.Context, _, path string) (Container, bool, error) {
	for id := range strings.FieldsFuncSeq(path, func(r rune) bool { return !isLowerHex(byte(r)) }) {
		if len(id) != 64 || !strings.HasSuffix(strings.TrimSuffix(path, ".scope"), id) {
			continue
		}
		c, err := b.read(id)
		if errors.Is(err, fs.ErrNotExist) || err == nil && c.CgroupPath != path {
			return Container{}, false, nil
		}
		return c, err == nil, err
	}
	return Container{}, false, nil
}

func (bundles) read(id string) (Container, error) {
	var spec struct {
		Linux struct {
			CgroupsPath string
			Namespaces  []struct{ Type string }
		}
	}
	dir := ""
	for _, state := range []string{"/run/docker/containerd/daemon", "/run/containerd"} {
		dir = filepath.Join(state, "io.containerd.runtime.v2.task/moby", id)
		if st, err := os.Stat(dir); err == nil && st.Sys().(*syscall.Stat_t).Uid == 0 {
			break
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return Container{}, err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "init.pid"))
	if err != nil {
		return Container{}, err
	}
	c := Container{ID: id, Name: id, Runtime: "docker", HostPID: true}
	if c.InitPID, err = strconv.Atoi(string(pid)); err != nil {
		return Container{}, err
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return Container{}, err
	}
	c.CgroupPath = spec.Linux.CgroupsPath
	if part := strings.Split(c.CgroupPath, ":"); len(part) == 3 { // slice:prefix:name
		c.CgroupPath = "/" + part[0] + "/" + part[1] + "-" + part[2] + ".scope"
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == "pid" {
			c.HostPID = false
		}
	}
	return c, nil
}
