package power

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
)

func TestNamespacesByPath(t *testing.T) {
	x := newTree(t)
	own := fmt.Sprintf("/proc/%d/ns/", os.Getpid())
	x.Symlink(own+"net", x.Dir+"/net")
	x.Write("file", nil)
	for _, test := range []struct {
		kind, path string
		hosts      bool
	}{
		{"network", "/proc/self/ns/net", true},
		{"network", own + "net", true},
		{"mount", own + "mnt", true},
		{"network", x.Dir + "/net", true},
		{"cgroup", own + "cgroup", true},
		{"mount", "/proc/thread-self/ns/mnt", true},
		{"ipc", x.Dir + "/file", false},
		{"ipc", x.Dir + "/gone", false},
		{"ipc", "/proc/self/../1/ns/gone", true}, // the runtime's own namespace never counts as another
	} {
		if hosts := (Host{}).isHosts(test.kind, test.path); hosts != test.hosts {
			t.Errorf("%s %s: %t", test.kind, test.path, hosts)
		}
	}
	c := config(t, "docker")
	add("linux.namespaces", map[string]any{"type": "uts", "path": "/proc/self/ns/uts"})(c)
	add("linux.namespaces", map[string]any{"type": "ipc", "path": x.Dir + "/gone"})(c)
	spec, err := launch.Parse(encode(t, c), "docker")
	if err != nil {
		t.Fatal(err)
	}
	if got := (Host{}).Namespaces(spec); !slices.Equal(got, []string{"uts"}) {
		t.Error(got)
	}
}

func TestJoined(t *testing.T) {
	const netns = "/run/netns/netns-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
	for name, test := range map[string]struct {
		bundle, id string
		kind, path string
		want       []string
	}{
		"own":            {"docker", id(1), "time", "", nil},
		"another's":      {"docker", id(1), "pid", "/proc/77/ns/pid", []string{"pid"}},
		"podman's own":   {"podman", id(1), "network", netns, nil},
		"nobody's":       {"docker", id(1), "network", "/run/netns/cni-1", []string{"network"}},
		"a file's":       {"docker", id(1), "network", "/srv/netns", []string{"network"}},
		"unknown type":   {"docker", id(1), "new", "/x", []string{"new"}},
		"user namespace": {"docker", id(1), "user", "/proc/77/ns/user", []string{"user"}},
	} {
		c := config(t, test.bundle)
		add("linux.namespaces", map[string]any{"type": test.kind, "path": test.path})(c)
		spec, err := launch.Parse(encode(t, c), test.bundle)
		if err != nil {
			t.Fatal(err)
		}
		if test.bundle == "podman" { // has a network of its own by such a path
			without("linux.namespaces", "type", "user")(c)
		}
		if got := joined(spec, test.id); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
