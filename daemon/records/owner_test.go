package records

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/logs"
)

// Every way in which another user could have written a record.
func TestRecordsThatAreNotRoots(t *testing.T) {
	chown := func(uid int, names ...string) func(x *tree, bundle string) {
		return func(x *tree, bundle string) {
			if os.Getuid() != 0 {
				skipUnavailable(x, "needs root: gives files to another user")
			}
			for _, name := range names {
				if err := os.Lchown(filepath.Join(bundle, name), uid, uid); err != nil {
					x.Fatal(err)
				}
			}
		}
	}
	chmod := func(name string, mode os.FileMode) func(x *tree, bundle string) {
		return func(x *tree, bundle string) {
			if err := os.Chmod(filepath.Join(bundle, name), mode); err != nil {
				x.Fatal(err)
			}
		}
	}
	for name, attack := range map[string]func(x *tree, bundle string){
		"file of another user":      chown(1234, "config.json"),
		"directory of another user": chown(1234, "."),
		"all of another user":       chown(1234, ".", "config.json"),
		"root's file in another's":  chown(1234, ".."),
		"directories of two users":  func(x *tree, b string) { chown(1234, "..")(x, b); chown(1235, ".")(x, b) },
		"file for the world":        chmod("config.json", 0o646),
		"file for the group":        chmod("config.json", 0o664),
		"directory for the world":   chmod(".", 0o757),
		"directory for the group":   chmod(".", 0o775),
		"directory above for all":   chmod("..", 0o777),
		"file for all, sticky":      chmod("config.json", 0o666|os.ModeSticky),
		"symlink instead of file": func(x *tree, b string) {
			move(x, b, "config.json")
			x.Symlink("real", filepath.Join(b, "config.json"))
		},
		"symlink instead of directory": func(x *tree, b string) {
			elsewhere := filepath.Join(x.Dir, "real") // in a place of bundles it would be a container by itself
			rename(x, b, elsewhere)
			x.Symlink(elsewhere, b)
		},
		"symlink far above": func(x *tree, b string) {
			top := filepath.Join(x.Dir, "task")
			rename(x, top, top+"-real")
			x.Symlink(top+"-real", top)
		},
		"FIFO": func(x *tree, b string) {
			move(x, b, "config.json")
			if err := unix.Mkfifo(filepath.Join(b, "config.json"), 0o644); err != nil {
				x.Fatal(err)
			}
		},
		"socket": func(x *tree, b string) {
			move(x, b, "config.json")
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				x.Fatal(err)
			}
			defer unix.Close(fd)
			wd, _ := os.Getwd()
			defer os.Chdir(wd)
			os.Chdir(b) // sun_path is short
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "config.json"}); err != nil {
				x.Fatal(err)
			}
		},
		"directory instead of file": func(x *tree, b string) {
			move(x, b, "config.json")
			if err := os.Mkdir(filepath.Join(b, "config.json"), 0o755); err != nil {
				x.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTree(t)
			path := "/docker/" + id(1)
			file := x.bundle("moby", id(1), path)
			attack(x, filepath.Dir(file))
			r, ok, err := x.declared(path)
			if ok || err == nil {
				t.Errorf("counts as root's: %+v", r)
			}
			if r := x.list()[id(1)]; r.Err == nil {
				t.Errorf("listed without an error: %+v", r)
			}
		})
	}
}

func TestRecordsThatAreRoots(t *testing.T) {
	x := newTree(t)
	file := x.bundle("moby", id(1), "/docker/"+id(1))
	for dir, mode := range map[string]os.FileMode{
		filepath.Dir(file):               0o700,
		filepath.Join(x.Dir, "task"):     0o711,
		x.Dir:                            0o777 | os.ModeSticky, // as /tmp
		filepath.Dir(filepath.Dir(file)): 0o1755,
	} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := x.declared("/docker/" + id(1)); !ok || err != nil {
		t.Error(ok, err)
	}
}

// A rootless engine's record belongs to its user, and applies only below the
// user's manager.
func TestUsersRecords(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: gives files to another user")
	}
	x := newTree(t)
	home := x.Mkdir("home/alice")
	x.store.options.Users = func() map[uint32]string { return map[uint32]string{1234: home} }
	make := func(n int, cgroup string) {
		c := config(t, "podman")
		set("linux.cgroupsPath", cgroup)(c)
		x.Write("home/alice/overlay-containers/"+id(n)+"/userdata/config.json", encode(t, c))
		err := filepath.Walk(home, func(name string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(name, 1234, 1234)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	make(1, "user.slice:libpod:"+id(1))
	make(2, "/docker/"+id(2)) // this one claims a cgroup that is not the user's
	make(3, "/user.slice/user-1235.slice/user@1235.service/user.slice/libpod-"+id(3)+".scope")
	x.bundle("moby", id(2), "/docker/"+id(2))

	r, ok, err := x.declared("/user.slice/user-1234.slice/user@1234.service/user.slice/libpod-" + id(1) + ".scope")
	if !ok || err != nil || r.UID != 1234 || r.Launch.Source != logs.SourceUser {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	if len(powerOf(t, x.store, r)) != 0 {
		t.Error("a user's container has power over the guest:", powerOf(t, x.store, r))
	}
	if r, ok, err := x.declared("/docker/" + id(2)); !ok || err != nil || r.UID != 0 {
		t.Errorf("root's container: %+v, %v, %v", r, ok, err)
	}
	if _, ok, _ := x.declared("/user.slice/user-1235.slice/user@1235.service/user.slice/libpod-" + id(3) + ".scope"); ok {
		t.Error("a user declared a cgroup of another's")
	}
	for _, r := range x.list() {
		if r.UID == 1234 && !strings.HasPrefix(r.CgroupPath, userManager(1234)) && r.CgroupPath != "" {
			t.Errorf("%s declares %s", r.ID, r.CgroupPath)
		}
	}
	// The user could have put root's files into the user's home.
	if err := os.Lchown(filepath.Join(home, "overlay-containers", id(1), "userdata/config.json"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if r, _, _ := x.declared("/user.slice/user-1234.slice/user@1234.service/user.slice/libpod-" + id(1) + ".scope"); r.UID != 1234 {
		t.Error("uid", r.UID)
	}
}

func move(x *tree, dir, name string) {
	rename(x, filepath.Join(dir, name), filepath.Join(dir, "real"))
}

func rename(x *tree, from, to string) {
	x.Helper()
	if err := os.Rename(from, to); err != nil {
		x.Fatal(err)
	}
}
