package power

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// What any user may read, and root alone may change, is no power; all else is.
func TestAllMayRead(t *testing.T) {
	if os.Geteuid() != 0 {
		skipUnavailable(t, "needs root: gives files to another user")
	}
	x := newTree(t)
	chmod := func(name string, mode os.FileMode) {
		if err := os.Chmod(filepath.Join(x.Dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	x.Write("file", nil)
	x.Write("secret", nil)
	chmod("secret", 0o600)
	x.Write("writable", nil)
	chmod("writable", 0o666)
	x.Write("linked", nil)
	x.Write("other", nil)
	if err := os.Link(x.Dir+"/linked", x.Dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(x.Dir+"/other", 1000, 0); err != nil {
		t.Fatal(err)
	}
	x.Write("closed/file", nil)
	chmod("closed", 0o700)
	x.Write("closed/tree/file", nil)
	x.Write("anybodys/file", nil)
	chmod("anybodys", 0o777)
	x.Write("sticky/file", nil)
	chmod("sticky", 0o777|os.ModeSticky)
	x.Write("tree/a/b", nil)
	x.Symlink("/etc/shadow", x.Dir+"/tree/link")
	x.Write("holey/a/secret", nil)
	chmod("holey/a/secret", 0o640)
	x.Write("shared/a/b", nil)
	chmod("shared/a", 0o775)
	if err := unix.Mkfifo(filepath.Join(x.Mkdir("fifo"), "x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"file": true, "secret": false, "writable": false, "linked": false, "other": false, "closed/file": false, "closed/tree": false,
		"anybodys/file": false, "sticky/file": true, "tree": true, "holey": false, "shared": false, "fifo": false, "sticky": false, "anybodys": false,
	} {
		at, err := x.host.find(x.Dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		last := at.last()
		var st unix.Stat_t
		if err := unix.Fstat(at.fd, &st); err != nil {
			t.Fatal(err)
		}
		s := &seen{fd: at.fd, mount: last.mount, id: last.id(), mode: last.mode, uid: last.uid, links: uint32(st.Nlink)}
		m := &procfs.Mount{ID: last.mount, Type: "ext4", ReadOnly: true}
		judge := func(m *procfs.Mount, path string) bool {
			return (&judge{host: Host{}, walk: walker{left: maxWalk}}).allMayRead(m, s, []string{path})
		}
		if got := judge(m, x.Dir+"/"+name); got != want {
			t.Errorf("%s: %t", name, got)
		}
		if judge(m, "/run/"+name) || judge(m, x.Dir+"/gone") || judge(m, x.Dir+"/tree/a") || judge(&procfs.Mount{ID: m.ID, Type: "tmpfs"}, x.Dir+"/"+name) {
			t.Errorf("%s: by another path, or in memory", name)
		}
		at.close()
	}
}

// What the administrator declared counts only while it may be declared.
func TestDeclare(t *testing.T) {
	if os.Geteuid() != 0 {
		skipUnavailable(t, "needs root: gives files to another user")
	}
	x := newTree(t)
	for _, dir := range []string{"data", "users", "open", "storage/docker"} {
		x.Mkdir(dir)
	}
	x.Write("file", nil)
	x.Symlink(x.Dir+"/data", x.Dir+"/link")
	if err := os.Chown(x.Dir+"/users", 1000, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(x.Dir+"/open", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	tables, err := Host{}.tables("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"data": true, "users": false, "open": false, "link": false, "gone": false, "storage": false, "storage/docker": false, "storage/docker/x": false,
	} {
		j := &judge{tables: tables, c: Container{Storages: []string{x.Dir + "/storage/docker"}}}
		if got := len(j.declare([]string{x.Dir + "/" + name})) == 1; got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if (&judge{tables: tables}).declare([]string{"/dev/shm"}) != nil {
		t.Error("a tmpfs is declared")
	}
}
