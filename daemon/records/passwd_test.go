package records

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
)

func TestHome(t *testing.T) {
	x := newTree(t)
	x.Write("root/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nbroken:x:1000\napp:x:1000:1000::/home/app:/bin/sh\nagain:x:1000:1000::/other:/bin/sh\n"))
	x.Write("linked/etc/real", []byte("app:x:1000:1000::/home/link:/bin/sh\n"))
	x.Symlink("/etc/real", filepath.Join(x.Dir, "linked/etc/passwd"))
	x.Mkdir("outside/etc")
	x.Symlink(x.Dir+"/root/etc/passwd", filepath.Join(x.Dir, "outside/etc/passwd"))
	x.Mkdir("fifo/etc")
	if err := unix.Mkfifo(filepath.Join(x.Dir, "fifo/etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	x.Write("large/etc/passwd", []byte("app:x:1000:1000::/home/app:/bin/sh\n"+strings.Repeat("#", maxPasswd)))
	for _, test := range []struct {
		root    string
		uid     int
		env     string
		mounted string
		want    launch.Text
	}{
		{root: "root", uid: 1000, env: "HOME=/x", want: "/home/app"},
		{root: "root", uid: 0, env: "HOME=/x", want: "/root"},
		{root: "root", uid: 7, env: "HOME=/x"},
		{root: "root", uid: 1000, env: "HOMES=/x"},
		{root: "root", uid: 1000, env: "HOME=/x", mounted: "/etc/passwd"},
		{root: "root", uid: 1000, env: "HOME=/x", mounted: "/etc"},
		{root: "linked", uid: 1000, env: "HOME=/x", want: "/home/link"},
		{root: "outside", uid: 1000, env: "HOME=/x"},
		{root: "fifo", uid: 1000, env: "HOME=/x"},
		{root: "large", uid: 1000, env: "HOME=/x"},
		{root: "none", uid: 1000, env: "HOME=/x"},
	} {
		c := config(t, "podman")
		set("process.user.uid", test.uid)(c)
		set("process.env", []any{test.env})(c)
		set("mounts", []any{})(c)
		if test.mounted != "" {
			add("mounts", mount(test.mounted, "bind", "/srv/x", "bind"))(c)
		}
		spec, err := launch.Parse(encode(t, c), "podman")
		if err != nil {
			t.Fatal(err)
		}
		if got := homeOf(x.store.options.HostRoot, &Record{RootPath: filepath.Join(x.Dir, test.root)}, spec); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func FuzzHomeIn(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n", uint32(0))
	f.Add("a:::::::\n\x00", uint32(1))
	f.Fuzz(func(t *testing.T, passwd string, uid uint32) {
		if home := homeIn(passwd, uid); strings.ContainsAny(home, ":\n") || !strings.Contains(passwd, home) {
			t.Fatalf("%q", home)
		}
	})
}
