package records

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestStateTellsTheFirstProcess(t *testing.T) {
	x := newTree(t)
	path := "/docker/" + id(1)
	x.bundle("moby", id(1), path)
	if r, ok, err := x.declared(path); !ok || err != nil || r.InitPID != 0 {
		t.Fatal(r, ok, err)
	}
	x.note("moby", id(1), path, 77)
	if r, ok, err := x.declared(path); !ok || err != nil || r.InitPID != 77 || r.InitStart != 4711 {
		t.Fatal(r.InitPID, r.InitStart, ok, err)
	}
	x.note("moby", id(1), path, 78)
	if r, _, _ := x.declared(path); r.InitPID != 78 {
		t.Error("a new state was not read", r.InitPID)
	}
	x.note("moby", id(1), "/docker/"+id(2), 77)
	if _, ok, err := x.declared(path); ok || err == nil {
		t.Error("a state that contradicts the bundle went through")
	}
	x.Write("runc/moby/"+id(1)+"/state.json", []byte(`{"init_process_pid":`))
	if _, ok, err := x.declared(path); ok || err == nil {
		t.Error("a torn state went through")
	}
	// Without runc's state the shim's own file is used.
	x.bundle("default", "c", "/default/c")
	x.Write("task/default/c/init.pid", []byte("99"))
	if r, ok, err := x.declared("/default/c"); !ok || err != nil || r.InitPID != 99 || r.InitStart != 0 {
		t.Error(r.InitPID, ok, err)
	}
}

func TestStateTellsTheCgroupWhereTheBundleDoesNot(t *testing.T) {
	x := newTree(t)
	x.bundle("default", "c", "relative/c")
	x.note("default", "c", "/runcs/own/relative/c", 7)
	if r, ok, err := x.declared("/runcs/own/relative/c"); !ok || err != nil || r.ID != "c" {
		t.Error(ok, err)
	}
	c := config(t, "podman")
	path := "/libpod_parent/libpod-" + strings.Repeat("a1", 32)
	own := c["linux"].(map[string]any)["cgroupsPath"].(string)
	if own != path {
		t.Fatal(own)
	}
	podman := strings.Repeat("a1", 32)
	x.Write("storage/overlay-containers/"+podman+"/userdata/config.json", encode(t, c))
	x.Write("crun/"+podman+"/status", []byte(`{"pid":12,"process-start-time":34,"cgroup-path":"`+path+`/container"}`))
	r, ok, err := x.declared(path)
	if !ok || err != nil || r.InitPID != 12 || r.InitStart != 34 || r.Runtime != "podman" {
		t.Error(r.InitPID, r.Runtime, ok, err)
	}
}

// State and bundle must have the same owner.
func TestStateOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: gives files to another user")
	}
	x := newTree(t)
	path := "/docker/" + id(1)
	x.bundle("moby", id(1), path)
	x.note("moby", id(1), path, 1)
	if err := os.Chown(filepath.Join(x.Dir, "runc/moby", id(1), "state.json"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := x.declared(path); ok || err == nil {
		t.Error("another user's state went through")
	}
}

// Docker and containerd's shim give crun a directory that is named after runc.
func TestStatesOfEachRuntime(t *testing.T) {
	for _, p := range DefaultPlaces()[:2] {
		for _, file := range []string{"state.json", "status"} {
			if !slices.Contains(p.States, "/run/docker/runtime-runc/{namespace}/{id}/"+file) {
				t.Errorf("%s: %s is not read", p.Runtime, file)
			}
		}
	}
}
