package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// unavailable skips a test that needs what this machine lacks; in CI nothing
// may be lacking.
func unavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not available with CI=true: %s", reason)
	}
	t.Skipf("left out: %s", reason)
}

// tree is a host of files: an engine's bundles and the runtime's notes.
type tree struct {
	*testing.T
	dir   string
	store *Store
}

// newTree makes a host whose root is whoever runs the test.
func newTree(t *testing.T) *tree {
	t.Helper()
	dir := t.TempDir()
	// The directories that testing makes above may be anybody's to write.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x := &tree{T: t, dir: dir}
	x.store = New(Options{
		Places: []Place{
			{"containerd", dir + "/task/{namespace}/{id}/config.json", []string{dir + "/runc/{namespace}/{id}/state.json"}, []string{dir + "/task/{namespace}/{id}/init.pid"}},
			{"podman", dir + "/storage/overlay-containers/{id}/userdata/config.json", []string{dir + "/runc/{id}/state.json", dir + "/crun/{id}/status"}, nil},
			{"podman", "{home}/overlay-containers/{id}/userdata/config.json", nil, nil},
		},
		Users: func() map[uint32]string { return nil },
	})
	x.store.trust.Root = uint32(os.Getuid())
	return x
}

func (x *tree) mkdir(name string) string {
	x.Helper()
	dir := filepath.Join(x.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.Fatal(err)
	}
	return dir
}

func (x *tree) write(name string, content []byte) string {
	x.Helper()
	x.mkdir(filepath.Dir(name))
	file := filepath.Join(x.dir, name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		x.Fatal(err)
	}
	return file
}

// bundle writes the bundle of a container of docker's.
func (x *tree) bundle(namespace, id, cgroup string, changes ...change) string {
	x.Helper()
	c := config(x, "docker")
	set("linux.cgroupsPath", cgroup)(c)
	for _, do := range changes {
		do(c)
	}
	return x.write(filepath.Join("task", namespace, id, "config.json"), encode(x, c))
}

// note writes runc's state of it.
func (x *tree) note(namespace, id, cgroup string, pid int) {
	x.Helper()
	raw, err := json.Marshal(map[string]any{
		"init_process_pid": pid, "init_process_start": 4711,
		"cgroup_paths": map[string]string{"": "/sys/fs/cgroup/unified" + cgroup, "pids": "/sys/fs/cgroup/pids" + cgroup},
	})
	if err != nil {
		x.Fatal(err)
	}
	x.write(filepath.Join("runc", namespace, id, "state.json"), raw)
}

func (x *tree) declared(cgroup string) (Record, bool, error) {
	x.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return x.store.Declared(ctx, cgroup)
}

func (x *tree) list() map[string]Record {
	x.Helper()
	all, err := x.store.List(context.Background())
	if err != nil {
		x.Fatal(err)
	}
	out := map[string]Record{}
	for _, r := range all {
		out[r.ID] = r
	}
	return out
}

// id makes 64 hex digits of a number.
func id(n int) string { return fmt.Sprintf("%064x", n+0xa0000) }

func powerOf(t *testing.T, s *Store, r Record) []string {
	t.Helper()
	power, err := s.Power(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return power
}

// host makes a host's file tree below the tree, and has the store look at it.
func (x *tree) host() string {
	x.Helper()
	for _, dir := range []string{
		"/etc/ssh", "/run/cima", "/run/cima-admin", "/sys/fs/cgroup", "/proc/sys/kernel", "/usr/bin", "/srv/data", "/tmp", "/dev",
		"/var/lib/containers/storage/x", "/var/lib/docker/containers/x", "/var/lib/docker/volumes/v/_data",
	} {
		x.mkdir("host" + dir)
	}
	if err := os.Chmod(filepath.Join(x.dir, "host/tmp"), 0o777|os.ModeSticky); err != nil {
		x.Fatal(err)
	}
	x.write("host/run/docker.sock", nil)
	symlink(x, "/run", filepath.Join(x.dir, "host/var/run"))
	symlink(x, "usr/bin", filepath.Join(x.dir, "host/bin"))
	x.store.options.HostRoot = filepath.Join(x.dir, "host")
	return x.store.options.HostRoot
}
