package power

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// walk looks below a directory with so many entries left.
func walk(t testing.TB, dir string, left int, open func(uint32, uint16) bool) (found, int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := statx(fd, "", &st); err != nil {
		t.Fatal(err)
	}
	w := walker{left: left}
	f := w.tree(fd, st.Mnt_id, open)
	return f, w.left
}

func TestWalk(t *testing.T) {
	x := newTree(t)
	x.Write("plain/a/b/file", nil)
	x.Symlink("/run", x.Dir+"/plain/a/link")
	x.Mkdir("plain/empty")
	for name, kind := range map[string]uint32{"socket": unix.S_IFSOCK, "fifo": unix.S_IFIFO} {
		if err := unix.Mknod(filepath.Join(x.Mkdir(name+"/a/b"), "x"), kind|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	x.Write("private/a/secret", nil)
	if err := os.Chmod(x.Dir+"/private/a/secret", 0o600); err != nil {
		t.Fatal(err)
	}
	deep := "deep"
	for range maxWalkDepth + 1 {
		deep += "/d"
	}
	x.Mkdir(deep)
	all := func(_ uint32, mode uint16) bool { return mode&0o004 != 0 }
	for name, test := range map[string]struct {
		dir  string
		left int
		open func(uint32, uint16) bool
		want found
		rest int
	}{
		"a tree":             {"plain", 100, nil, found{}, 95},
		"asked of each":      {"plain", 100, all, found{}, 95},
		"just enough":        {"plain", 5, nil, found{}, 0},
		"one too many":       {"plain", 4, nil, found{unseen: true}, 0},
		"nothing left":       {"plain", 0, nil, found{unseen: true}, 0},
		"nothing to look at": {"plain/empty", 0, nil, found{}, 0},
		"a socket":           {"socket", 100, nil, found{special: true}, 97},
		"a FIFO":             {"fifo", 100, nil, found{special: true}, 97},
		"private":            {"private", 100, all, found{private: true}, 98},
		"private, not asked": {"private", 100, nil, found{}, 98},
		"too deep":           {"deep", 1000, nil, found{unseen: true}, 1000 - maxWalkDepth},
	} {
		if got, rest := walk(t, x.Dir+"/"+test.dir, test.left, test.open); got != test.want || rest != test.rest {
			t.Errorf("%s: %+v, %d left; want %+v, %d", name, got, rest, test.want, test.rest)
		}
	}
}

// One bound holds for all mounts of a start: 4,096 declared directories of 20,000 entries
// cost one walk.
func TestWalkIsBoundedForAll(t *testing.T) {
	x := newTree(t)
	for i := range 30 {
		x.Write(fmt.Sprintf("d/%d", i), nil)
	}
	w := walker{left: 40}
	fd, err := unix.Open(x.Dir+"/d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var unseen int
	for range 100 {
		if w.tree(fd, 0, nil).unseen {
			unseen++
		}
	}
	if unseen != 99 || w.left != 0 {
		t.Errorf("%d of 100 unseen, %d left", unseen, w.left)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08abc\x00"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		for name := range entries(buf) {
			if len(name) > len(buf) || strings.Contains(name, "\x00") {
				t.Errorf("%q", name)
			}
		}
	})
}

// Declared data in a tree is passed over: containers write there, and it is judged by
// itself.
func TestWalkPassesData(t *testing.T) {
	x := newTree(t)
	x.Write("tree/plain/file", nil)
	if err := unix.Mkfifo(filepath.Join(x.Mkdir("tree/data/sub"), "x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	fd, err := unix.Open(x.Dir+"/tree/data", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = statx(fd, "", &st)
	}
	tree, err2 := unix.Open(x.Dir+"/tree", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	defer unix.Close(tree)
	data := procfs.FileID{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino}
	for name, test := range map[string]struct {
		data map[procfs.FileID]bool
		want found
	}{
		"declared":     {map[procfs.FileID]bool{data: true}, found{}},
		"not declared": {nil, found{special: true}},
	} {
		w := walker{left: 100, data: test.data}
		if got := w.tree(tree, st.Mnt_id, nil); got != test.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What a container can make in its declared data has no class, neither can many files or
// closed directories. A socket of the host's has, wherever the path by which it was bound
// leads.
func TestDeclaredData(t *testing.T) {
	if os.Geteuid() != 0 {
		skipUnavailable(t, "needs root: makes devices")
	}
	x := newTree(t)
	dir := x.Mkdir("data/made")
	for name, kind := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFBLK} {
		if err := unix.Mknod(filepath.Join(dir, name), kind|0o666, int(unix.Mkdev(8, 0))); err != nil {
			t.Fatal(err)
		}
	}
	x.Symlink(dir, x.Dir+"/link")
	served := x.Mkdir("data/served/deep")
	x.Symlink(served, x.Dir+"/way")
	l, err := net.Listen("unix", x.Dir+"/way/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tables, err := Host{}.tables("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"data/made": "", "data/made/fifo": "", "data/made/socket": "", "data/made/device": "",
		"data/served": classDataSocket, "data/served/deep": classDataSocket, "data/served/deep/s": classDataSocket, "data": classDataSocket,
	} {
		at, err := x.host.find(x.Dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		p := tables.place(&at)
		m := &procfs.Mount{ID: at.last().mount, Device: p.device, Root: p.root, Type: "ext4"}
		j := &judge{tables: tables, c: Container{Data: []string{x.Dir + "/data"}}, walk: walker{left: 0}}
		j.prepare()
		got := j.placed(m, &seen{fd: at.fd, mount: m.ID, id: at.last().id(), mode: at.last().mode})
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		at.close()
	}
	j := &judge{host: Host{Root: "/proc/0/root"}, tables: tables}
	if got := j.declaredData(&procfs.Mount{}); strings.Join(got, " ") != classDataUnseen {
		t.Errorf("where nobody can ask for sockets: %q", got)
	}
}
