package launch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// For two mounts that overlap, the digest depends on which is on top.
func TestOrderOfMountsThatOverlap(t *testing.T) {
	launch := func(mounts ...any) Launch {
		c := config(t, "docker")
		set("mounts", mounts)(c)
		return launchOf(t, c)
	}
	a, ab, b := mount("/a", "bind", "/srv/1", "rbind"), mount("/a/b", "bind", "/srv/2", "rbind"), mount("/b", "bind", "/srv/3", "rbind")
	if digestOf(t, launch(a, ab), Image{}) == digestOf(t, launch(ab, a), Image{}) {
		t.Error("a hidden mount must differ from one on top")
	}
	if digestOf(t, launch(a, ab, b), Image{}) != digestOf(t, launch(b, a, ab), Image{}) {
		t.Error("the order of mounts that don't overlap counts")
	}
}

// A later mount hides those at its place and below. The check costs no more
// than the length of a path, which is below 4096 bytes.
func TestHiddenMounts(t *testing.T) {
	for _, tt := range []struct {
		destination, later string
		hidden             bool
	}{
		{"/a/b", "/a/b", true}, {"/a/b", "/a", true}, {"/a/b/", "a//.", true}, {"/a/b", "/", true}, {"/", "/", true},
		{"/a/b", "/a/b/c", false}, {"/ab", "/a", false}, {"/a/b", "/b", false}, {"/", "/a", false},
		{strings.Repeat("/a", 2047), "/a/a", true}, {strings.Repeat("/a", 2047), "/b", false},
	} {
		c := config(t, "docker")
		set("mounts", []any{mount(tt.destination, "tmpfs", "t"), mount(tt.later, "tmpfs", "later")})(c)
		hidden := false
		for _, m := range launchOf(t, c).Mounts {
			hidden = hidden || m.Hidden
		}
		if hidden != tt.hidden {
			t.Errorf("%.20s below %s: hidden %t", tt.destination, tt.later, hidden)
		}
	}
	c := config(t, "docker")
	set("mounts", []any{mount(strings.Repeat("/a", 2048), "tmpfs", "t")})(c)
	if _, err := FromConfig(bytes.NewReader(encode(t, c)), Rules{}); err == nil || !strings.Contains(err.Error(), "destination") {
		t.Error(err)
	}
}

// Only files in the engine's own storage are the engine's.
func TestSourceOfBinds(t *testing.T) {
	other := strings.Repeat("ab", 32)
	for _, test := range []struct {
		name, destination, source string
		want                      Mount
	}{
		{"docker", "/data", "/srv/data", Mount{Source: "/srv/data"}},
		{"docker", "/data", "/var/lib/docker/volumes/vol/_data", Mount{Volume: "vol"}},
		{"docker", "/data", "/var/lib/docker/volumes/" + other + "/_data", Mount{Anonymous: true}},
		{"docker", "/data", "/evil/volumes/" + other + "/_data", Mount{Source: Text("/evil/volumes/" + other + "/_data")}},
		{"docker", "/data", "/evil/volumes/vol/_data", Mount{Source: "/evil/volumes/vol/_data"}},
		{"docker", "/data", "/var/lib/docker/volumes/vol/_data/../../../x", Mount{Source: "/var/lib/docker/volumes/vol/_data/../../../x"}},
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + other + "/hosts", Mount{Engine: true}}, // --network container:
		{"docker", "/bin/sh", "/var/lib/docker/containers/" + other + "/hosts", Mount{Source: Text("/var/lib/docker/containers/" + other + "/hosts")}},
		{"docker", "/etc/hosts", "/evil/containers/" + other + "/hosts", Mount{Source: Text("/evil/containers/" + other + "/hosts")}},
		{"ctr", "/data", "/srv/launch-ctr1", Mount{Source: "/srv/launch-ctr1"}}, // ids may be any word
		{"podman", "/data", "/var/lib/containers/storage/volumes/vol/_data", Mount{Volume: "vol"}},
		{"podman", "/dev/shm", "/dev/shm", Mount{Source: "/dev/shm"}},
		{"cri", "/x", "/var/lib/kubelet/pods/ffffffff-1111-2222-3333-444455556666/etc-hosts", Mount{Source: "/var/lib/kubelet/pods/ffffffff-1111-2222-3333-444455556666/etc-hosts"}},
	} {
		c := config(t, test.name)
		set("mounts", []any{mount(test.destination, "bind", test.source)})(c)
		test.want.Destination, test.want.Type, test.want.Options = Text(test.destination), "bind", []Text{}
		if diff := cmp.Diff(test.want, launchOf(t, c).Mounts[0]); diff != "" {
			t.Errorf("%s, %s: %s", test.name, test.source, diff)
		}
	}
}
