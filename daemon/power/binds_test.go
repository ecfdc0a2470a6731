package power

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A path that a private /tmp hides from the daemon can still be mounted by the
// engine.
func TestPowerBehindAPrivateTmp(t *testing.T) {
	const inside = "LAUNCH_TEST_HOST_ROOT"
	if root := os.Getenv(inside); root != "" {
		powersInside(t, root, os.Getenv("LAUNCH_TEST_DIR"))
		return
	}
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: a mount namespace of its own")
	}
	x := newTree(t)
	shared := x.Mkdir("shared")
	x.Symlink("/", shared+"/root")
	x.Symlink("../../../../../../../../etc", shared+"/etc")
	x.Symlink("/run/docker.sock", shared+"/sock")
	x.Symlink("/proc/self/ns/net", shared+"/self")
	x.Symlink(fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), shared+"/net")
	x.Mkdir("shared/plain")
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs none /tmp && exec /proc/self/fd/3 -test.run '^TestPowerBehindAPrivateTmp$'")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=/proc/%d/root", inside, os.Getpid()), "LAUNCH_TEST_DIR="+shared, "TMPDIR=/tmp")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	var got map[string][]string
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string][]string{
		"root": {"mount:/", "mount:/etc", "engine-storage", "socket:docker"}, "etc": {"mount:/etc"},
		"sock": {"socket:docker"}, "net": {"namespace:network"}, "self": {"namespace:network"},
		"plain": nil, "gone": {"unresolved-mount"},
	} {
		for _, class := range want {
			if !slices.Contains(got[name], class) {
				t.Errorf("%s: %v lacks %s", name, got[name], class)
			}
		}
		if len(want) == 0 && len(got[name]) > 0 || name == "gone" && len(got[name]) != 1 {
			t.Errorf("%s: %v", name, got[name])
		}
	}
}

// powersInside prints the powers of containers that mount or join a directory
// that this mount namespace doesn't have.
func powersInside(t *testing.T, root, dir string) {
	if _, err := os.Lstat(dir); err == nil {
		t.Fatal("nothing is hidden here")
	}
	x := newTree(t)
	x.host.Root = root
	got := map[string][]string{}
	for i, name := range []string{"root", "etc", "sock", "plain", "gone", "net", "self"} {
		does := add("mounts", mount("/h", "bind", dir+"/"+name, "rbind"))
		if i > 4 {
			does = func(c map[string]any) {
				without("linux.namespaces", "type", "network")(c)
				add("linux.namespaces", map[string]any{"type": "network", "path": dir + "/" + name})(c)
			}
		}
		x.bundle(id(i), "/docker/"+id(i), does)
		got[name] = x.judge(id(i))
	}
	out, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s\n", out)
}

// A user other than root who can replace the file at a path can do so between
// the check and the mount.
func TestReplaceable(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: files of others")
	}
	x := newTree(t)
	root := x.makeHost()
	own := func(name string, uid int, mode os.FileMode) {
		at := root + "/" + name
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if os.Lchown(at, uid, 0) != nil || os.Chmod(at, mode) != nil {
			t.Fatal(at)
		}
	}
	own("tmp/roots/x", 0, 0o755)
	own("tmp/users/x", 0, 0o755)
	own("tmp/users", 1000, 0o755)
	own("srv/group/x", 0, 0o755)
	own("srv/group", 0, 0o775)
	own("srv/all/x", 0, 0o755)
	own("srv/all", 0, 0o777)
	own("srv/volume", 999, 0o777)
	x.Symlink("/srv/data", root+"/tmp/roots-link")
	x.Symlink("/srv/data", root+"/tmp/users-link")
	x.Symlink("/tmp/users/x", root+"/srv/through")
	if err := os.Lchown(root+"/tmp/users-link", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"/srv/data": false, "/tmp/roots": false, "/tmp/roots/x": false, "/tmp/roots-link": false, "/srv/volume": false, "/srv/all": false,
		"/tmp/users": true, "/tmp/users/x": true, "/tmp/users-link": true, "/srv/group/x": true, "/srv/all/x": true, "/srv/through": true,
	} {
		x.bundle(id(1), "/docker/"+id(1), add("mounts", mount("/x", "bind", name, "rbind", "ro")))
		power := x.judge(id(1))
		if got := slices.Contains(power, classReplaceableMount); got != want || len(power) > 1 {
			t.Errorf("%s: %v", name, power)
		}
	}
}

// A container is root for files: it can replace everything in a directory that
// it may write.
func TestReplaceableByAnotherContainer(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second map[string]any
		want          bool
	}{
		"below a volume":      {mount("/s", "bind", "/var/lib/docker/volumes/v/_data", "rbind"), mount("/s", "bind", "/var/lib/docker/volumes/v/_data/x", "rbind", "ro"), true},
		"below":               {mount("/s", "bind", "/srv/data", "rbind"), mount("/s", "bind", "/srv/data/x", "rbind"), true},
		"above":               {mount("/s", "bind", "/srv/data/x", "rbind"), mount("/s", "bind", "/srv/data", "rbind"), true},
		"by a link":           {mount("/s", "bind", "/srv/link", "rbind"), mount("/s", "bind", "/srv/data/x", "rbind"), true},
		"read-only":           {mount("/s", "bind", "/srv/data", "rbind", "ro"), mount("/s", "bind", "/srv/data/x", "rbind"), false},
		"the same":            {mount("/s", "bind", "/srv/data", "rbind"), mount("/s", "bind", "/srv/data", "rbind"), false},
		"next to it":          {mount("/s", "bind", "/srv/data", "rbind"), mount("/s", "bind", "/srv/data2", "rbind"), false},
		"of one that may all": {mount("/s", "bind", "/", "rbind"), mount("/s", "bind", "/srv/data/x", "rbind"), false},
	} {
		x := newTree(t)
		x.makeHost()
		x.Mkdir("host/srv/data/x")
		x.Mkdir("host/srv/data2")
		x.Mkdir("host/var/lib/docker/volumes/v/_data/x")
		x.Symlink("data", x.Dir+"/host/srv/link")
		x.bundle(id(1), "/docker/"+id(1), add("mounts", tt.first))
		if power := x.judge(id(1)); slices.Contains(power, classReplaceableMount) {
			t.Errorf("%s, alone: %v", name, power)
		}
		x.bundle(id(2), "/docker/"+id(2), add("mounts", tt.second))
		if power := x.judge(id(2)); slices.Contains(power, classReplaceableMount) != tt.want {
			t.Errorf("%s: %v", name, power)
		}
	}
}

// The check is the latest: changes since the bundle was read count.
func TestPowerIsJudgedWhenAsked(t *testing.T) {
	x := newTree(t)
	root := x.makeHost()
	link := root + "/srv/link"
	x.Symlink("data", link)
	x.bundle(id(1), "/docker/"+id(1), add("mounts", mount("/x", "bind", "/srv/link", "rbind")))
	if power := x.judge(id(1)); len(power) != 0 {
		t.Error(power)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	x.Symlink("/etc", link)
	if power := x.judge(id(1)); !slices.Contains(power, "mount:/etc") {
		t.Error(power)
	}
}
