package records

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/trust"
)

const mappedRoot = 100000

// mapped writes podman's bundle of a container with a user namespace: the directory
// belongs to the container's root.
func (x *tree) mapped(n int, changes ...change) (userdata string) {
	x.Helper()
	if os.Getuid() != 0 {
		skipUnavailable(x, "needs root: gives files to another user")
	}
	c := config(x, "podman")
	set("linux.cgroupsPath", "/libpod_parent/libpod-"+id(n))(c)
	set("linux.uidMappings", []any{map[string]any{"containerID": 0, "hostID": mappedRoot, "size": 65536}})(c)
	for _, do := range changes {
		do(c)
	}
	userdata = filepath.Dir(x.Write("storage/overlay-containers/"+id(n)+"/userdata/config.json", encode(x, c)))
	if err := os.Chmod(userdata, 0o700); err != nil {
		x.Fatal(err)
	}
	if err := os.Lchown(userdata, mappedRoot, mappedRoot); err != nil {
		x.Fatal(err)
	}
	return userdata
}

// noteRoot writes runc's state, which has who it made the container's root.
func (x *tree) noteRoot(n int, bundle string, root int) {
	x.Helper()
	cgroup := "/libpod_parent/libpod-" + id(n)
	raw, err := json.Marshal(map[string]any{
		"init_process_pid": 77, "init_process_start": 4711, "cgroup_paths": map[string]string{"pids": "/sys/fs/cgroup/pids" + cgroup},
		"config": map[string]any{
			"labels":       []string{"bundle=/an/annotation", "bundle=" + bundle},
			"uid_mappings": []any{map[string]any{"container_id": 0, "host_id": root, "size": 65536}},
		},
	})
	if err != nil {
		x.Fatal(err)
	}
	x.Write(filepath.Join("runc", id(n), "state.json"), raw)
}

func TestDirectoryOfTheContainersRoot(t *testing.T) {
	x := newTree(t)
	bundle := x.mapped(1)
	declared := func() (Record, bool, error) { return x.declared("/libpod_parent/libpod-" + id(1)) }
	if r, ok, err := declared(); !ok || err != nil || r.UID != 0 || r.InitPID != 0 || r.Launch.Source != "bundle" {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	x.noteRoot(1, bundle, mappedRoot)
	if r, ok, err := declared(); !ok || err != nil || r.InitPID != 77 {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	x.noteRoot(1, bundle, mappedRoot+1)
	if _, ok, err := declared(); ok || err == nil || !strings.Contains(err.Error(), "container's root") {
		t.Errorf("the runtime made another user the root: %v, %v", ok, err)
	}
	x.noteRoot(1, "/another/bundle", mappedRoot)
	if r, ok, err := declared(); !ok || err != nil || r.InitPID != 0 {
		t.Errorf("the state of another bundle: %+v, %v, %v", r, ok, err)
	}
}

// A user of the host whose uid, own or subordinate, is the container's root could replace
// the bundle, and the runtime would read what it is given.
func TestBundleOfASubordinateUID(t *testing.T) {
	x := newTree(t)
	x.mapped(1)
	x.bundle("moby", id(2), "/docker/"+id(2))
	for text, want := range map[string]bool{
		"":                                    false,
		"containers-nobody-has:100000:1000\n": false,
		"1000:200000:65536\n":                 false,
		"1000:100000:65536\n":                 true,
	} {
		x.Write("subuid", []byte(text))
		x.store.subordinate = &trust.SubUIDs{File: x.Dir + "/subuid"}
		x.store.isUser = func(uint32) bool { return false }
		r, ok, err := x.declared("/libpod_parent/libpod-" + id(1))
		if !ok || err != nil {
			t.Fatal(err)
		}
		if got := powerOf(t, x.store, r); slices.Contains(got, "replaceable-bundle") != want {
			t.Errorf("%q: %v", text, got)
		}
		x.store.isUser = func(uid uint32) bool { return uid == mappedRoot }
		if got := powerOf(t, x.store, r); !slices.Contains(got, "replaceable-bundle") {
			t.Errorf("%q, and a user has the uid: %v", text, got)
		}
		if r, _, _ = x.declared("/docker/" + id(2)); slices.Contains(powerOf(t, x.store, r), "replaceable-bundle") {
			t.Errorf("%q: a bundle of root's", text)
		}
	}
}

// Only the directory may be the container's root's; all else must be root's.
func TestDirectoryOfAnother(t *testing.T) {
	file := func(x *tree, bundle string) string { return filepath.Join(bundle, "config.json") }
	for name, attack := range map[string]func(x *tree, bundle string) error{
		"the file too":  func(x *tree, b string) error { return os.Lchown(file(x, b), mappedRoot, mappedRoot) },
		"another user":  func(x *tree, b string) error { return os.Lchown(b, mappedRoot+1, mappedRoot) },
		"two names":     func(x *tree, b string) error { return os.Link(file(x, b), b+"/other") },
		"for the group": func(x *tree, b string) error { return os.Chmod(b, 0o770) },
		"for all":       func(x *tree, b string) error { return os.Chmod(b, 0o1777) },
		"a symlink": func(x *tree, b string) error {
			move(x, b, "config.json")
			return os.Symlink("real", file(x, b))
		},
		"the directory above": func(x *tree, b string) error { return os.Lchown(filepath.Dir(b), mappedRoot, mappedRoot) },
		"a FIFO": func(x *tree, b string) error {
			move(x, b, "config.json")
			return unix.Mkfifo(file(x, b), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTree(t)
			if err := attack(x, x.mapped(1)); err != nil {
				t.Fatal(err)
			}
			if r, ok, err := x.declared("/libpod_parent/libpod-" + id(1)); ok || err == nil {
				t.Errorf("counts as root's: %+v", r)
			}
		})
	}
	for name, mappings := range map[string]any{
		"no mapping":      []any{},
		"another's":       []any{map[string]any{"containerID": 0, "hostID": mappedRoot + 1, "size": 65536}},
		"not of its root": []any{map[string]any{"containerID": 1, "hostID": mappedRoot, "size": 65536}},
		"of no user":      []any{map[string]any{"containerID": 0, "hostID": mappedRoot, "size": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTree(t)
			x.mapped(1, set("linux.uidMappings", mappings))
			if r, ok, err := x.declared("/libpod_parent/libpod-" + id(1)); ok || err == nil {
				t.Errorf("counts as root's: %+v", r)
			}
		})
	}
	// Readers don't agree on a doubled member.
	x := newTree(t)
	bundle := x.mapped(1)
	raw, err := os.ReadFile(bundle + "/config.json")
	if err != nil {
		t.Fatal(err)
	}
	doubled := strings.Replace(string(raw), `"uidMappings"`, `"uidMappings":[],"uidMappings"`, 1)
	if err := os.WriteFile(bundle+"/config.json", []byte(doubled), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, ok, err := x.declared("/libpod_parent/libpod-" + id(1)); ok || err == nil {
		t.Errorf("a doubled member counts: %+v", r)
	}
}

// Of two containers with one id the second is refused, whatever their runtimes and
// namespaces: whoever chooses ids can't take another's, and can't take it from that one.
func TestTwoOfOneID(t *testing.T) {
	x := newTree(t)
	x.store.options.Places = append([]Place{{Runtime: "docker", Config: x.Dir + "/io.containerd.own/{namespace}/{id}/config.json"}}, x.store.options.Places...)
	own := func(id string) {
		c := config(t, "docker")
		set("linux.cgroupsPath", "/own/"+id)(c)
		x.Write("io.containerd.own/moby/"+id+"/config.json", encode(t, c))
	}
	podman := func(id string) {
		c := config(t, "podman")
		set("linux.cgroupsPath", "/libpod_parent/libpod-"+id)(c)
		x.Write("storage/overlay-containers/"+id+"/userdata/config.json", encode(t, c))
	}
	later := func() { time.Sleep(20 * time.Millisecond) } // of the clock that stamps files
	x.bundle("default", id(1), "/default/"+id(1))         // chosen before docker made it
	later()
	own(id(1))
	later()
	x.bundle("moby", id(1), "/docker/"+id(1)) // another containerd
	podman(id(1))
	x.bundle("moby", id(2), "/docker/"+id(2))
	podman(id(3))
	later()
	podman(id(2))
	x.bundle("moby", id(3), "/docker/"+id(3))
	x.bundle("k8s.io", id(3), "/kubepods/"+id(3))
	x.bundle("k8s.io", id(4), "/kubepods/"+id(4))
	later()
	x.bundle("default", id(4), "/default/"+id(4))
	x.bundle("default", "web", "/default/web")
	x.bundle("1000", "web", "/1000/web")
	x.Mkdir("storage/overlay-containers/" + id(4) + "/userdata") // never ran
	check := func(want map[string]string) {
		t.Helper()
		for cgroup, want := range want {
			switch r, ok, err := x.declared(cgroup); {
			case want == "" && (ok || !errors.Is(err, ErrTwice)):
				t.Errorf("%s: %q, %v, %v; must be refused", cgroup, r.Name, ok, err)
			case want != "" && (!ok || err != nil || r.Name != want):
				t.Errorf("%s: %q, %v, %v; want %q", cgroup, r.Name, ok, err, want)
			}
		}
	}
	check(map[string]string{
		"/default/" + id(1): "", "/own/" + id(1): id(1), "/docker/" + id(1): "", "/libpod_parent/libpod-" + id(1): "",
		"/docker/" + id(2): id(2), "/libpod_parent/libpod-" + id(2): "",
		"/docker/" + id(3): "", "/libpod_parent/libpod-" + id(3): id(3), "/kubepods/" + id(3): "",
		"/kubepods/" + id(4): "k8s.io:" + id(4), "/default/" + id(4): "",
		"/default/web": "default:web", "/1000/web": "1000:web",
	})
	names := make(map[string]bool)
	all, err := x.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, r := range all {
		if names[r.Name] {
			t.Errorf("two containers are named %s", r.Name)
		}
		names[r.Name] = true
		if errors.Is(r.Err, ErrTwice) {
			refused++
		}
	}
	if len(all) != 13 || refused != 7 {
		t.Errorf("%d containers are listed, %d of them refused", len(all), refused)
	}
	// What was first is gone: then the other has the id.
	if err := os.RemoveAll(x.Dir + "/task/moby/" + id(2)); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{"/libpod_parent/libpod-" + id(2): id(2)})
}

// A user's container with the id of one of root's is refused, and never takes it.
func TestUsersIDOfRoots(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(2))
	if _, err := x.store.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	place := &x.store.options.Places[2]
	users := func(id string) location { return location{place: place, id: id, uid: 1000, home: x.Dir} }
	if err := x.store.checkID(users(id(1))); !errors.Is(err, ErrTwice) {
		t.Errorf("a user's with the id of root's: %v", err)
	}
	if err := x.store.checkID(users(id(3))); err != nil {
		t.Errorf("a user's with an id of its own: %v", err)
	}
}
