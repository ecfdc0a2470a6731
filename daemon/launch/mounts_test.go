package launch

import (
	"bytes"
	"slices"
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
		for _, m := range launchOf(t, c).Asked.Mounts {
			hidden = hidden || m.Hidden
		}
		if hidden != tt.hidden {
			t.Errorf("%.20s below %s: hidden %t", tt.destination, tt.later, hidden)
		}
	}
	c := config(t, "docker")
	set("mounts", []any{mount(strings.Repeat("/a", 2048), "tmpfs", "t")})(c)
	if _, err := FromConfig(bytes.NewReader(encode(t, c)), Rules{}, Known{}); err == nil || !strings.Contains(err.Error(), "destination") {
		t.Error(err)
	}
}

// Only files in the container's own directory, by their exact names and at their own
// places, are the engine's.
func TestSourceOfBinds(t *testing.T) {
	own, other := strings.Repeat("a1", 32), strings.Repeat("ab", 32)
	const kubelet = "/var/lib/kubelet/pods/"
	pod := kubelet + "0b7c3f51-1111-2222-3333-444455556666"
	for _, test := range []struct {
		name, destination, source string
		want                      *Mount // nil: nobody asked for it
	}{
		{"docker", "/data", "/srv/data", &Mount{Source: "/srv/data"}},
		{"docker", "/data", "/var/lib/docker/volumes/vol/_data", &Mount{Volume: "vol"}},
		{"docker", "/data", "/var/lib/docker/volumes/" + other + "/_data", &Mount{Volume: Text(other)}},
		{"docker", "/data", "/var/lib/docker/volumes/" + own + "/_data", &Mount{Anonymous: true}},
		{"docker", "/data", "/evil/volumes/" + own + "/_data", &Mount{Source: "/evil/volumes/{id}/_data"}},
		{"docker", "/data", "/var/lib/docker/volumes/vol/_data/../../../x", &Mount{Source: "/var/lib/docker/volumes/vol/_data/../../../x"}},
		{"docker", "/data", "/var/lib/docker/volumes/a/b/_data", &Mount{Source: "/var/lib/docker/volumes/a/b/_data"}},
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + own + "/hosts", nil},
		{"docker", "/bin/sh", "/var/lib/docker/containers/" + own + "/hosts", &Mount{Source: "/var/lib/docker/containers/{id}/hosts"}},
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + own + "/hostconfig.json", &Mount{Source: "/var/lib/docker/containers/{id}/hostconfig.json"}},
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + other + "/hosts", &Mount{Source: Text("/var/lib/docker/containers/" + other + "/hosts")}},
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + strings.Repeat("b0", 32) + "/hosts", nil}, // --network container:
		{"docker", "/etc/hosts", "/var/lib/docker/containers/" + strings.Repeat("b0", 32) + "/hostconfig.json", &Mount{Source: Text("/var/lib/docker/containers/" + strings.Repeat("b0", 32) + "/hostconfig.json")}},
		{"docker", "/etc/hosts", "/evil/containers/" + own + "/hosts", &Mount{Source: "/evil/containers/{id}/hosts"}},
		{"ctr", "/data", "/a/launch-ctr1/conf", &Mount{Source: "/a/launch-ctr1/conf"}}, // ids may be any word
		{"podman", "/data", "/var/lib/containers/storage/volumes/vol/_data", &Mount{Volume: "vol"}},
		{"podman", "/run/secrets/k", "/var/lib/containers/storage/overlay-containers/" + own + "/userdata/secrets/s1", &Mount{Secret: "s1"}},
		{"podman", "/dev/shm", "/dev/shm", &Mount{Source: "/dev/shm"}},
		{"podman", "/dev/shm", "/var/lib/containers/storage/overlay-containers/" + own + "/userdata/shm", nil},
		{"cri", "/etc/hosts", pod + "/etc-hosts", nil},
		{"cri", "/x", pod + "/etc-hosts", &Mount{Source: kubelet + "{pod}/etc-hosts"}},
		{"cri", "/x", kubelet + "ffffffff-1111-2222-3333-444455556666/etc-hosts", &Mount{Source: kubelet + "ffffffff-1111-2222-3333-444455556666/etc-hosts"}},
		{"cri", "/dev/termination-log", pod + "/containers/app/12345678", nil},
		{"cri", "/bin/sh", pod + "/containers/app/12345678", &Mount{Source: kubelet + "{pod}/containers/app/{file}"}},
		{"cri", "/dev/termination-log", pod + "/containers/other/12345678", &Mount{Source: kubelet + "{pod}/containers/other/12345678"}},
		{"cri", "/x", pod + "/volumes/kubernetes.io~configmap/c", &Mount{Volume: "kubernetes.io~configmap/c", Engine: true}},
		{"cri", "/x", pod + "/volumes/kubernetes.io~configmap/c/sub", &Mount{Source: kubelet + "{pod}/volumes/kubernetes.io~configmap/c/sub"}},
	} {
		c := config(t, test.name)
		set("mounts", []any{mount(test.destination, "bind", test.source)})(c)
		l, err := FromConfig(bytes.NewReader(encode(t, c)), Rules{}, Known{
			Anonymous: func(name string) bool { return name == own },
			Shares:    func(id string) bool { return id == strings.Repeat("b0", 32) },
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []Mount
		if test.want != nil {
			test.want.Destination, test.want.Type = Text(test.destination), "bind"
			want = []Mount{*test.want}
		}
		if diff := cmp.Diff(want, l.Asked.Mounts); diff != "" {
			t.Errorf("%s, %s: %s", test.name, test.source, diff)
		}
	}
}

// Podman has the layers of an overlay at random places in the container's own directory.
func TestLayersOfPodman(t *testing.T) {
	launched := func(random, top string) Launch {
		c := config(t, "podman")
		dir := "/var/lib/containers/storage/overlay-containers/" + podmanID(t, c) + "/userdata/overlay/" + random
		set("mounts", []any{mount("/d", "overlay", "overlay", "lowerdir="+top+":"+dir+"/lower", "upperdir="+dir+"/upper", "workdir="+dir+"/work")})(c)
		return launchOf(t, c)
	}
	one := launched("1", "/srv/data")
	if want := []Text{"lowerdir=/srv/data:{engine}", "upperdir={engine}", "workdir={engine}"}; !slices.Equal(one.Asked.Mounts[0].Options, want) {
		t.Errorf("options %q, must be %q", one.Asked.Mounts[0].Options, want)
	}
	if other := launched("2", "/srv/data"); bothOf(t, one) != bothOf(t, other) {
		t.Error("two runs differ")
	}
	if other := launched("1", "/etc"); digestOf(t, one, Image{}) == digestOf(t, other, Image{}) {
		t.Error("two sources have one digest")
	}
}

// podmanID is the id of podman's bundle: its root file system's mount has it.
func podmanID(t testing.TB, c map[string]any) string {
	t.Helper()
	cgroup := c["linux"].(map[string]any)["cgroupsPath"].(string)
	return cgroup[len(cgroup)-64:]
}

// Options that undo one another show what holds; those of propagation are applied in
// their order.
func TestMountOptions(t *testing.T) {
	for options, want := range map[string]string{
		"ro rw":                    "rw",
		"rw ro":                    "ro",
		"suid nosuid":              "nosuid",
		"size=1m mode=700 size=2m": "mode=700 size=2m",
		"rbind rprivate":           "rbind rprivate",
		"rshared rprivate":         "rshared,rprivate",
		"rprivate rshared":         "rprivate,rshared",
		"ro rbind ro":              "rbind ro",
		`context="a:b:c_t:s0:c1"`:  "context=c_t",
		"rro rw":                   "rro rw",
	} {
		var list []Text
		for o := range strings.FieldsSeq(options) {
			list = append(list, Text(o))
		}
		if got := strings.ReplaceAll(joined(MountOptions(list)), ",", " "); got != strings.ReplaceAll(want, ",", " ") || len(MountOptions(list)) != len(strings.Fields(want)) {
			t.Errorf("%s: %s, want %s", options, got, want)
		}
	}
}

// Docker since 25 mounts its own files read-only all the way down where the root file
// system is read-only.
func TestEnginesFilesReadOnly(t *testing.T) {
	for option, added := range map[Text]bool{"ro": true, "rro": true, "exec": false} {
		m := Mount{Destination: "/etc/hosts", Type: "bind", Engine: true, Options: []Text{"rbind", "rprivate", option}}
		if got := (&normaliser{}).addedByEngine(m); got != added {
			t.Errorf("%s: %t", option, got)
		}
	}
}
