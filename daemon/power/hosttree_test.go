package power

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	x := newTree(t)
	root := x.makeHost()
	deep := strings.Repeat("d/", 20)
	x.Mkdir("host/srv/" + deep)
	long := strings.Repeat("./", 2000)
	for name, target := range map[string]string{
		"slash": "/", "sock": "/run/docker.sock", "up": "../../../../../../../../etc", "rel": "data/../../etc/ssh", "loop": "loop", "a": "b", "b": "a",
		"gone": "/nowhere/x", "dots": "/srv/./data//..", "long": long + "data", "outside": x.Dir + "/outside",
		"tower": "/srv/" + strings.TrimSuffix(strings.Repeat("d/", 20), "/") + strings.Repeat("/..", 20),
	} {
		x.Symlink(target, root+"/srv/"+name)
	}
	for i := range 45 {
		x.Symlink(fmt.Sprintf("chain%d", i+1), fmt.Sprintf("%s/srv/chain%d", root, i))
	}
	x.Symlink("data", root+"/srv/chain45")
	x.Write("outside/secret", []byte("x"))
	for _, tt := range []struct {
		name, path string
		err        error
	}{
		{"/", "/", nil},
		{"", "/", nil},
		{"/srv/data", "/srv/data", nil},
		{"srv/data/", "/srv/data", nil},
		{"/srv/slash", "/", nil},
		{"/srv/slash/etc/../srv/slash", "/", nil},
		{"/srv/sock", "/run/docker.sock", nil},
		{"/var/run/docker.sock", "/run/docker.sock", nil},
		{"/srv/up", "/etc", nil},
		{"/../../../etc", "/etc", nil},
		{"/srv/rel", "/etc/ssh", nil},
		{"/srv/dots", "/srv", nil},
		{"/srv/slash/../../etc", "/etc", nil},
		{"/srv/up/..", "/", nil}, // not /srv
		{"/srv/tower", "/srv", nil},
		{"/srv/chain6", "/srv/data", nil}, // 40 links
		{"/srv/chain5", "/srv/chain45", unix.ELOOP},
		{"/srv/loop", "/srv/loop", unix.ELOOP},
		{"/srv/a/x", "", unix.ELOOP},
		{"/srv/gone", "/nowhere/x", unix.ENOENT},
		{"/var/run/gone/x", "/run/gone/x", unix.ENOENT},
		{"/srv/sock/x", "/run/docker.sock/x", unix.ENOTDIR},
		{"/srv/sock/..", "", unix.ENOTDIR},
		{"/srv/outside/secret", x.Dir + "/outside/secret", unix.ENOENT},
		{"/srv/long", "/srv/data", nil},
		{"/" + strings.Repeat("x/", 2100), "", unix.ENAMETOOLONG},
		{"/" + strings.Repeat("x", 300), "", unix.ENAMETOOLONG},
		{"/srv/long/../long/../long", "", unix.ENAMETOOLONG}, // longer than the gate waits for
		{"/srv/data\x00/x", "", unix.EINVAL},
	} {
		at, err := Host{Root: root}.find(tt.name)
		if !errors.Is(err, tt.err) || tt.path != "" && at.path != tt.path {
			t.Errorf("%.40s: %s, %v; want %s, %v", tt.name, at.path, err, tt.path, tt.err)
		}
		if (err == nil) != (at.fd >= 0) {
			t.Errorf("%.40s: descriptor %d", tt.name, at.fd)
		}
		at.close()
	}
	if _, err := (Host{Root: x.Dir + "/none"}).find("/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("no root:", err)
	}
}

// The target of a link in /proc depends on the process that follows it.
func TestFindThroughProc(t *testing.T) {
	x := newTree(t)
	x.Symlink("/proc/self/root/etc", x.Dir+"/link")
	for _, name := range []string{"/proc/self/root", "/proc/1/root/etc", "/proc/self/fd/0", "/proc/thread-self", "/proc/mounts", x.Dir + "/link"} {
		at, err := Host{}.find(name)
		if !errors.Is(err, errMagic) || at.fd != -1 {
			t.Errorf("%s: %s, %v", name, at.path, err)
		}
	}
	at, err := Host{}.find("/proc/sys/kernel")
	if err != nil || at.path != "/proc/sys/kernel" {
		t.Error(at.path, err)
	}
	at.close()
}

// The walk goes where the kernel would, and never out of its root.
func TestFindAsTheKernel(t *testing.T) {
	for seed := range uint64(200) {
		x := newTree(t)
		r := rand.New(rand.NewPCG(seed, 1))
		parts := []string{"a", "b", "c", "l", "m", "n", "..", ".", ""}
		name := func() string {
			var all []string
			for range 1 + r.IntN(6) {
				all = append(all, parts[r.IntN(len(parts))])
			}
			return strings.Repeat("/", r.IntN(2)) + strings.Join(all, "/")
		}
		x.Mkdir("root/a/b/c")
		x.Mkdir("root/b/a")
		x.Mkdir("c")
		x.Write("root/c", nil)
		for _, dir := range []string{"", "/a", "/a/b", "/b", "/b/a"} {
			for _, link := range []string{"l", "m", "n"} {
				if target := name(); target != "" && r.IntN(2) == 0 {
					x.Symlink(target, x.Dir+"/root"+dir+"/"+link)
				}
			}
		}
		for range 50 {
			sameAsKernel(t, x.Dir+"/root", name())
		}
	}
}

// sameAsKernel compares the walk with openat2(2).
func sameAsKernel(t *testing.T, root, name string) {
	t.Helper()
	at, err := Host{Root: root}.find(name)
	defer at.close()
	dir, failed := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if failed != nil {
		t.Fatal(failed)
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, want := unix.Openat2(dir, "./"+name, &how)
	for want == unix.EAGAIN { // another process renamed or mounted something while the kernel resolved ".."
		fd, want = unix.Openat2(dir, "./"+name, &how)
	}
	if want == nil {
		defer unix.Close(fd)
	}
	if want != nil || err != nil {
		// A slash or a dot after a file: the walk is less strict. It ends after
		// maxSteps, where the kernel continues.
		known := errors.Is(want, unix.ENOTDIR) && err == nil || want == nil && err == unix.ENAMETOOLONG
		if (want == nil) != (err == nil) && !known {
			t.Errorf("%q: %v, the kernel: %v", name, err, want)
		}
	}
	if err != nil {
		return
	}
	link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", at.fd))
	if rest, below := strings.CutPrefix(link, root); !below || filepath.Clean("/"+rest) != at.path {
		t.Errorf("%q leads to %s, by its own word to %s", name, link, at.path)
	}
	if there, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); want == nil && there != link {
		t.Errorf("%q leads to %s, the kernel to %s", name, link, there)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("/a/l", "/", "../../..")
	f.Add("l/m/../m", "m", "/a/../../l")
	f.Add("l/../../../proc/self/root", "/proc/self/root", "..")
	f.Add(strings.Repeat("l/", 40), strings.Repeat("/", 300), "a") // more steps than the walk makes
	root := f.TempDir() + "/root"
	if err := os.MkdirAll(root+"/a/b", 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, l, m string) {
		for link, target := range map[string]string{"/l": l, "/a/m": m} {
			os.Remove(root + link)
			if os.Symlink(target, root+link) != nil {
				return
			}
		}
		if strings.Contains(name, "\x00") || strings.Count(name+l+m, "/") > 500 || len(name) > 3000 {
			return
		}
		sameAsKernel(t, root, name)
	})
}

// The walk reads nothing on a file system that a user or another machine
// serves.
func TestFindOnARemoteFileSystem(t *testing.T) {
	w := resolver{rest: []string{"x"}, resolved: resolved{fd: -1, path: "/mnt", chain: []component{{mode: unix.S_IFDIR, kind: unix.FUSE_SUPER_MAGIC}}}}
	if err := w.next(); err != errRemote {
		t.Error(err)
	}
}
