package records

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/launch/launchtest"
)

// Short names keep the tables readable.
var (
	config          = launchtest.Config
	encode          = launchtest.Encode
	set             = launchtest.Set
	add             = launchtest.Add
	mount           = launchtest.Mount
	id              = launchtest.ID
	skipUnavailable = launchtest.SkipUnavailable
)

type change = launchtest.Change

// tree is a host of files: an engine's bundles and the runtime's notes.
type tree struct {
	*launchtest.Tree
	store *Store
}

// newTree makes a host whose root is the user who runs the test.
func newTree(t *testing.T) *tree {
	t.Helper()
	x := &tree{Tree: launchtest.NewTree(t)}
	dir := x.Dir
	x.store = New(Options{
		Places: []Place{
			{"containerd", dir + "/task/{namespace}/{id}/config.json", []string{dir + "/runc/{namespace}/{id}/state.json"}, []string{dir + "/task/{namespace}/{id}/init.pid"}},
			{"podman", dir + "/storage/overlay-containers/{id}/userdata/config.json", []string{dir + "/runc/{id}/state.json", dir + "/crun/{id}/status"}, nil},
			{"podman", "{home}/overlay-containers/{id}/userdata/config.json", nil, nil},
		},
		Users: func() map[uint32]string { return nil },
	})
	x.store.trust.Root = uint32(os.Getuid())
	x.store.subordinate.File = dir + "/subuid"
	x.store.storage.Trust = x.store.trust
	return x
}

// bundle writes the bundle of a container of docker's.
func (x *tree) bundle(namespace, id, cgroup string, changes ...change) string {
	x.Helper()
	c := config(x, "docker")
	set("linux.cgroupsPath", cgroup)(c)
	for _, do := range changes {
		do(c)
	}
	return x.Write(filepath.Join("task", namespace, id, "config.json"), encode(x, c))
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
	x.Write(filepath.Join("runc", namespace, id, "state.json"), raw)
}

func (x *tree) declared(cgroup string) (Record, bool, error) {
	x.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return x.store.Declared(ctx, "", cgroup)
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

func powerOf(t *testing.T, s *Store, r Record) []string {
	t.Helper()
	power, err := s.Power(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return power
}

func sha384Hex(b []byte) string { return fmt.Sprintf("%x", sha512.Sum384(b)) }
