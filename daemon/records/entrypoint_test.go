package records

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/launch"
)

// image is a root file system with programs, links and traps.
func image(x *tree) string {
	x.Helper()
	program := func(name, content string) {
		x.Write(name, []byte(content))
		if err := os.Chmod(filepath.Join(x.Dir, name), 0o755); err != nil {
			x.Fatal(err)
		}
	}
	program("root/bin/app", "app")
	program("root/usr/local/bin/late", "late")
	program("root/srv/run", "run")
	program("outside/secret", "of the host")
	x.Write("root/bin/data", []byte("not executable"))
	x.Mkdir("root/bin/dir")
	x.Mkdir("root/vol")
	for name, target := range map[string]string{
		"root/bin/link": "app", "root/bin/far": "/usr/local/bin/late", "root/bin/up": "../../../../../bin/app",
		"root/bin/loop": "loop", "root/bin/out": "../../outside/secret", "root/bin/abs": x.Dir + "/outside/secret",
		"root/bin/tovol": "/vol/app", "root/sbin": "bin", "root/lvol": "vol", "root/bin/proc": "/proc/self/exe",
	} {
		x.Symlink(target, filepath.Join(x.Dir, name))
	}
	if err := unix.Mkfifo(filepath.Join(x.Dir, "root/bin/fifo"), 0o755); err != nil {
		x.Fatal(err)
	}
	return filepath.Join(x.Dir, "root")
}

func TestEntrypoint(t *testing.T) {
	x := newTree(t)
	root := image(x)
	app, late, run := sha384Hex([]byte("app")), sha384Hex([]byte("late")), sha384Hex([]byte("run"))
	for _, test := range []struct {
		arg, cwd, search string
		mounts           []string
		kind             string // of the mounts
		path, digest     string
	}{
		{arg: "/bin/app", path: "/bin/app", digest: app},
		{arg: "/sbin/app", path: "/sbin/app", digest: app},
		{arg: "/bin/link", path: "/bin/link", digest: app},
		{arg: "/bin/far", path: "/bin/far", digest: late},
		{arg: "/bin/up", path: "/bin/up", digest: app}, // .. stops at the root
		{arg: "app", path: "/sbin/app", digest: app},   // found first
		{arg: "late", path: "/usr/local/bin/late", digest: late},
		{arg: "app", search: "relative:/bin", path: "/bin/app", digest: app},
		{arg: "run", path: ""},
		{arg: "run", search: "/srv", path: "/srv/run", digest: run},
		{arg: "./run", cwd: "/srv", path: "/srv/run", digest: run},
		{arg: "../srv/run", cwd: "/bin", path: "/srv/run", digest: run},
		{arg: "data", path: ""},
		{arg: "dir", path: ""},
		{arg: "fifo", path: ""},
		{arg: "/bin/fifo", path: ""},
		{arg: "/bin/loop", path: ""},
		{arg: "/bin/out", path: ""},
		{arg: "/bin/abs", path: ""},
		{arg: "/bin/proc", path: ""},
		{arg: "/none", path: ""},
		{arg: "", path: ""},
		// A path that a mount covers is not the root file system's.
		{arg: "/bin/app", mounts: []string{"/bin/app"}, path: "/bin/app"},
		{arg: "/bin/app", mounts: []string{"/bin"}, path: "/bin/app"},
		{arg: "/bin/app", mounts: []string{"/sbin"}, path: "/bin/app"}, // a link to /bin
		{arg: "/bin/app", mounts: []string{"/sbin/../bin/app"}, path: "/bin/app"},
		{arg: "/bin/tovol", mounts: []string{"/vol"}, path: "/bin/tovol"},
		{arg: "/bin/tovol", mounts: []string{"/lvol"}, path: "/bin/tovol"},
		{arg: "/bin/app", mounts: []string{"/new/one", "/vol"}, path: "/bin/app", digest: app},
		{arg: "app", search: "/vol:/bin", mounts: []string{"/vol"}, path: ""}, // it may be in /vol
		// A mount below another mount is placed where a symlink there leads.
		{arg: "/bin/app", mounts: []string{"/vol", "/vol/x"}, path: "/bin/app"},
		{arg: "/bin/app", mounts: []string{"/vol/x/y", "/lvol"}, path: "/bin/app"},
		{arg: "app", search: "/bin", mounts: []string{"/vol", "/vol/x"}, path: ""},
		{arg: "/bin/app", mounts: []string{"/vol", "/volume"}, path: "/bin/app", digest: app},
		{arg: "/bin/app", kind: "tmpfs", mounts: []string{"/vol", "/vol/x"}, path: "/bin/app", digest: app},
	} {
		r := Record{RootPath: root, details: details{search: test.search}}
		if test.search == "" {
			r.details.search = defaultPath
		}
		r.Launch.Asked = &launch.Asked{Arguments: []launch.Text{launch.Text(test.arg)}, WorkingDirectory: launch.Text(test.cwd)}
		r.Launch.Defaults = &launch.Defaults{}
		for _, m := range test.mounts {
			r.Launch.Defaults.Mounts = append(r.Launch.Defaults.Mounts, launch.Mount{Destination: launch.Text(m), Type: test.kind})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		got := launch.Entrypoint{}
		if e := entrypoint(ctx, r, "", hashing.New()); e != nil {
			got = *e
		}
		cancel()
		if string(got.Path) != test.path || got.SHA384 != test.digest {
			t.Errorf("%+v: got %+v", test, got)
		}
	}
}

func TestEntrypointTooLarge(t *testing.T) {
	x := newTree(t)
	root := image(x)
	if err := os.Truncate(filepath.Join(root, "bin/app"), maxExecutable+1); err != nil {
		t.Fatal(err)
	}
	r := Record{RootPath: root, Launch: launch.Launch{Asked: &launch.Asked{Arguments: []launch.Text{"/bin/app"}}, Defaults: &launch.Defaults{}}}
	if e := entrypoint(context.Background(), r, "", hashing.New()); e == nil || e.Path != "/bin/app" || e.SHA384 != "" {
		t.Errorf("%+v", e)
	}
}

// Other file systems mounted in the root file system don't belong to it.
func TestEntrypointStaysInItsFileSystem(t *testing.T) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	root := &rootfs{fd: fd}
	defer root.close()
	if _, _, err := root.stat("/proc/version"); !errors.Is(err, unix.EXDEV) {
		t.Error(err)
	}
}

func TestFromBundle(t *testing.T) {
	x := newTree(t)
	image(x)
	c := config(t, "docker")
	set("root.path", "../root")(c)
	set("process.args", []any{"app", "x"})(c)
	set("hooks.poststart", []any{map[string]any{"path": filepath.Join(x.Dir, "outside/secret")}})(c)
	x.Write("bundle/config.json", encode(t, c))
	l, err := FromBundle(context.Background(), filepath.Join(x.Dir, "bundle"), launch.Rules{}, launch.Known{})
	if err != nil {
		t.Fatal(err)
	}
	if l.Entrypoint == nil || l.Entrypoint.SHA384 != sha384Hex([]byte("app")) || l.Asked.Hooks[0].SHA384 != sha384Hex([]byte("of the host")) {
		t.Errorf("%+v %+v", l.Entrypoint, l.Asked.Hooks)
	}
	plain, err := launch.FromConfig(bytes.NewReader(encode(t, c)), launch.Rules{}, launch.Known{})
	if err != nil {
		t.Fatal(err)
	}
	plain.Entrypoint, plain.Asked.Hooks[0].SHA384 = l.Entrypoint, l.Asked.Hooks[0].SHA384
	if !reflect.DeepEqual(plain, l) {
		t.Error("FromConfig and FromBundle differ in more than digests of files")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := FromBundle(ctx, filepath.Join(x.Dir, "bundle"), launch.Rules{}, launch.Known{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := FromBundle(context.Background(), x.Dir, launch.Rules{}, launch.Known{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A root file system is read where the host sees it.
func TestEntrypointBelowTheHostsRoot(t *testing.T) {
	x := newTree(t)
	image(x)
	r := Record{RootPath: "/root", Launch: launch.Launch{Asked: &launch.Asked{Arguments: []launch.Text{"/bin/app"}}, Defaults: &launch.Defaults{}}}
	if e := entrypoint(t.Context(), r, x.Dir, hashing.New()); e == nil || e.SHA384 != sha384Hex([]byte("app")) {
		t.Errorf("%+v", e)
	}
}

// The runtime looks for the program as the container's user, who may not search every
// directory nor execute every file (ATTACKS D3).
func TestEntrypointByItsUser(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: gives files to another user")
	}
	x := newTree(t)
	put := func(name string, mode os.FileMode, uid, gid int) {
		x.Write("root/"+name+"/app", []byte(name))
		file := filepath.Join(x.Dir, "root", name, "app")
		if err := errors.Join(os.Chmod(file, mode), os.Chown(file, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string, mode os.FileMode, uid, gid int) {
		at := filepath.Join(x.Dir, "root", name)
		if err := errors.Join(os.Chmod(at, mode), os.Chown(at, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
	put("closed", 0o755, 0, 0)
	dir("closed", 0o700, 0, 0)
	put("group", 0o755, 0, 0)
	dir("group", 0o710, 0, 7)
	put("own", 0o700, 1000, 0)
	put("others", 0o701, 0, 7)
	put("notowner", 0o677, 1000, 0)
	put("open", 0o755, 0, 0)
	put("mapped", 0o700, 101000, 100000)
	put("unmapped", 0o700, 5, 5)
	x.Mkdir("root/a/b")
	x.Mkdir("root/links")
	x.Symlink("/a/b", filepath.Join(x.Dir, "root/links/cwd"))
	put("a", 0o755, 0, 0)
	x.Symlink("../closed/app", filepath.Join(x.Dir, "root/links/app"))
	const namespaces = `{"linux":{"uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],"gidMappings":[{"containerID":0,"hostID":100000,"size":65536}]}}`
	for name, test := range map[string]struct {
		uid, gid       uint32
		groups         []uint32
		caps           []string
		config         string
		arg, cwd, path string
		want           string // in the file
	}{
		"root searches all":                {caps: []string{"CAP_DAC_OVERRIDE"}, arg: "app", path: "/closed:/open", want: "closed"},
		"another user passes over":         {uid: 1000, gid: 1000, arg: "app", path: "/closed:/open", want: "open"},
		"its own directory's owner":        {arg: "app", path: "/closed:/open", want: "closed"},
		"its group":                        {uid: 1000, gid: 7, arg: "app", path: "/group:/open", want: "group"},
		"one of its groups":                {uid: 1000, gid: 1, groups: []uint32{3, 7}, arg: "app", path: "/group:/open", want: "group"},
		"not its group":                    {uid: 1000, gid: 1, arg: "app", path: "/group:/open", want: "open"},
		"its own file":                     {uid: 1000, gid: 1, arg: "app", path: "/own:/open", want: "own"},
		"root without capabilities":        {arg: "app", path: "/own:/open", want: "open"},
		"root with capabilities":           {caps: []string{"CAP_DAC_OVERRIDE"}, arg: "app", path: "/own:/open", want: "own"},
		"search alone executes nothing":    {caps: []string{"CAP_DAC_READ_SEARCH"}, arg: "app", path: "/own:/open", want: "open"},
		"the group's bits come before all": {uid: 1000, gid: 7, arg: "app", path: "/others:/open", want: "open"},
		"the others' bits":                 {uid: 1000, gid: 1, arg: "app", path: "/others:/open", want: "others"},
		"the owner's bits come first":      {uid: 1000, gid: 1, arg: "app", path: "/notowner:/open", want: "open"},
		"by its path":                      {uid: 1000, arg: "/closed/app"},
		"through a link":                   {uid: 1000, arg: "app", path: "/links:/open", want: "open"},
		"root through a link":              {caps: []string{"CAP_DAC_OVERRIDE"}, arg: "app", path: "/links:/open", want: "closed"},
		"from its working directory":       {uid: 1000, arg: "./app", cwd: "/open", want: "open"},
		"above a link":                     {uid: 1000, arg: "../app", cwd: "/links/cwd", want: "a"},
		"by the host's id":                 {uid: 1000, gid: 1, config: namespaces, arg: "app", path: "/mapped:/open", want: "mapped"},
		"as root of its namespace":         {caps: []string{"CAP_DAC_OVERRIDE"}, config: namespaces, arg: "app", path: "/mapped:/open", want: "mapped"},
		"not over files of others":         {caps: []string{"CAP_DAC_OVERRIDE"}, config: namespaces, arg: "app", path: "/unmapped:/open", want: "open"},
		"an id that nobody has":            {uid: 70000, config: namespaces, arg: "app", path: "/open"},
	} {
		c := config(t, "docker")
		set("process.user", map[string]any{"uid": test.uid, "gid": test.gid, "additionalGids": test.groups})(c)
		set("process.capabilities.effective", test.caps)(c)
		set("process.args", []any{test.arg})(c)
		set("process.cwd", "/"+test.cwd)(c)
		set("process.env", []any{"PATH=" + test.path})(c)
		set("mounts", []any{})(c)
		raw := encode(t, c)
		spec, err := launch.Parse(raw, "docker")
		if err != nil {
			t.Fatal(err)
		}
		l, err := launch.Normalise(spec, "", launch.Rules{}, launch.Known{})
		if err != nil {
			t.Fatal(err)
		}
		r := Record{RootPath: filepath.Join(x.Dir, "root"), Launch: l, details: details{search: searchPath(spec), user: userOf(spec, []byte(test.config))}}
		e := entrypoint(t.Context(), r, "", hashing.New())
		switch {
		case test.want == "" && e != nil:
			t.Errorf("%s: %+v", name, e)
		case test.want != "" && (e == nil || e.SHA384 != sha384Hex([]byte(test.want))):
			t.Errorf("%s: %+v, want the file in %s", name, e, test.want)
		}
	}
}

// What an access control list allows isn't known: neither is the program, then.
func TestEntrypointWithAccessControlList(t *testing.T) {
	x := newTree(t)
	image(x)
	// Version 2: the owner rwx, uid 1000 none, the group, the mask and others r-x.
	list := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 0, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	file := filepath.Join(x.Dir, "root/bin/app")
	x.Write("root/open/app", []byte("open"))
	os.Chmod(filepath.Join(x.Dir, "root/open/app"), 0o755)
	if err := unix.Setxattr(file, "system.posix_acl_access", list, 0); err != nil {
		skipUnavailable(t, "no access control lists: "+err.Error())
	}
	for uid, want := range map[uint32]bool{uint32(os.Getuid()): true, 1000: false, 2000: false} {
		r := Record{RootPath: filepath.Join(x.Dir, "root"), details: details{user: identity{uid: uid}}}
		r.Launch = launch.Launch{Asked: &launch.Asked{Arguments: []launch.Text{"/bin/app"}}, Defaults: &launch.Defaults{}}
		if e := entrypoint(t.Context(), r, "", hashing.New()); (e != nil) != want {
			t.Errorf("uid %d: %+v", uid, e)
		}
		r.Launch.Asked.Arguments, r.details.search = []launch.Text{"app"}, "/bin:/open"
		if e := entrypoint(t.Context(), r, "", hashing.New()); (e != nil) != want {
			t.Errorf("uid %d, along PATH: %+v", uid, e)
		}
	}
}
