package power

import (
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
)

// A host with its root and /home on a btrfs, /srv on a disk of its own that is mounted at
// /mnt too, and docker's directory mounted elsewhere.
var host = newTables([]procfs.Mount{
	{ID: 1, Device: 10, Root: "/@", Point: "/", Type: "btrfs"},
	{ID: 2, Device: 10, Root: "/@home", Point: "/home", Type: "btrfs"},
	{ID: 3, Device: 20, Root: "/", Point: "/srv", Type: "ext4"},
	{ID: 4, Device: 20, Root: "/", Point: "/mnt", Type: "ext4"},
	{ID: 5, Device: 30, Root: "/", Point: "/big", Type: "xfs", Group: 7},
	{ID: 6, Device: 30, Root: "/docker", Point: "/var/lib/docker", Type: "xfs"},
	{ID: 7, Device: 40, Root: "/", Point: "/run", Type: "tmpfs"},
})

func TestPathsOfMounts(t *testing.T) {
	for _, test := range []struct {
		device uint64
		root   string
		want   []string
	}{
		{10, "/@/etc", []string{"/etc"}},
		{10, "/@", []string{"/"}},
		{10, "/@home/u", []string{"/home/u"}},
		{10, "/@homes", nil}, // a subvolume that is mounted nowhere
		{20, "/data", []string{"/mnt/data", "/srv/data"}},
		{30, "/docker/volumes/v/_data", []string{"/big/docker/volumes/v/_data"}},
		{30, "/", []string{"/big"}},
		{40, "/docker.sock", []string{"/run/docker.sock"}},
		{50, "/", nil},
	} {
		m := &procfs.Mount{Device: test.device, Root: test.root}
		if got := host.paths(m); !slices.Equal(got, test.want) {
			t.Errorf("%d %s: %q, want %q", test.device, test.root, got, test.want)
		}
	}
	volume := &procfs.Mount{Device: 30, Root: "/docker/volumes/v/_data"}
	for name, want := range map[string]bool{
		"/big/docker/volumes/v/_data": true, "/var/lib/docker/volumes/v/_data": true, "/var/lib/docker/volumes/v": false, "/docker/volumes/v/_data": false,
	} {
		if host.leads(name, volume) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// What is mounted at the very path is of another place, unless it is a whole file system.
func TestLeadsByMountsAbove(t *testing.T) {
	for _, test := range []struct {
		device uint64
		root   string
		name   string
		want   bool
	}{{30, "/docker", "/var/lib/docker", false}, {30, "/docker", "/big/docker", true}, {30, "/", "/big", true}, {20, "/", "/srv", true}} {
		if got := host.leads(test.name, &procfs.Mount{Device: test.device, Root: test.root}); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestTopOf(t *testing.T) {
	for name, want := range map[string]string{
		"/": "/", "/etc": "/etc", "/etc/x": "/etc", "/etcetera": "other", "/secret/x": "other", "/proc": "other", "/lib": "/lib", "/lib64": "other",
	} {
		if got := topOf([]string{name}); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestDeclared(t *testing.T) {
	srv := declared{path: "/srv", place: place{20, "/"}}
	bound := declared{path: "/data", place: place{30, "/data"}} // a directory that is mounted there
	for name, test := range map[string]struct {
		list []declared
		m    procfs.Mount
		want bool
	}{
		"itself":                         {[]declared{srv}, procfs.Mount{Device: 20, Root: "/"}, true},
		"below":                          {[]declared{srv}, procfs.Mount{Device: 20, Root: "/x/y"}, true},
		"another disk":                   {[]declared{srv}, procfs.Mount{Device: 30, Root: "/x"}, false},
		"by the place of a bind":         {[]declared{bound}, procfs.Mount{Device: 30, Root: "/data/x"}, true},
		"beside it":                      {[]declared{bound}, procfs.Mount{Device: 30, Root: "/database"}, false},
		"nothing is declared":            {nil, procfs.Mount{Device: 20, Root: "/"}, false},
		"a place that is not there":      {[]declared{{path: "/gone", place: place{}}}, procfs.Mount{Device: 0, Root: "/"}, false},
		"a disk below a declared one":    {[]declared{{path: "/", place: place{10, "/@/none"}}}, procfs.Mount{Device: 40, Root: "/x"}, true},
		"a disk that is elsewhere too":   {[]declared{{path: "/srv", place: place{99, "/"}}}, procfs.Mount{Device: 20, Root: "/x"}, false},
		"a disk that is mounted nowhere": {[]declared{srv}, procfs.Mount{Device: 50, Root: "/x"}, false},
	} {
		paths := host.paths(&test.m)
		if len(paths) == 0 {
			paths = []string{"/nowhere"} // placed has said what it is by then
		}
		if got := isDeclared(test.list, &test.m, paths); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Volumes are NAME/_data, in the place where the engine keeps them.
func TestVolumes(t *testing.T) {
	j := &judge{tables: host, c: Container{Volumes: []string{"/var/lib/docker/volumes"}}, volumes: []place{{30, "/docker/volumes"}}}
	for root, want := range map[string]bool{
		"/docker/volumes/v/_data": true, "/docker/volumes/v": false, "/docker/volumes/v/_data/sub": false, "/docker/volumes/a/b/_data": false,
		"/docker/volumes//_data": false, "/docker/volumes/_data": false, "/docker/volumes/v/_data//deleted": false, "/etc": false,
	} {
		if got := j.isVolume(&procfs.Mount{Device: 30, Root: root}, nil); got != want {
			t.Errorf("%s: %t", root, got)
		}
	}
	if j.isVolume(&procfs.Mount{Device: 10, Root: "/docker/volumes/v/_data"}, nil) {
		t.Error("on another device")
	}
	unknown := &judge{tables: host, c: Container{Volumes: []string{"/gone"}}, volumes: []place{{}}}
	if unknown.isVolume(&procfs.Mount{Root: "/v/_data"}, nil) {
		t.Error("where the engine keeps none")
	}
}

func TestNamed(t *testing.T) {
	for kind, want := range map[string]string{"ext4": "ext4", "fuse.sshfs": "fuse", "fuse": "fuse", "nfs4": "nfs4", "mysecretfs": "other", "": "other"} {
		if got := named(kind); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
	for _, kind := range []string{"fuse", "fuse.x", "nfs", "nfs4", "cifs", "9p", "virtiofs", "ceph", "autofs", "nsfs", "unknown", ""} {
		if local(kind) {
			t.Errorf("%s would be opened", kind)
		}
	}
}
