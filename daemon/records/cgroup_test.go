package records

import (
	"maps"
	"path"
	"strings"
	"testing"
)

func TestDeclare(t *testing.T) {
	for _, test := range []struct {
		declared string
		uid      uint32
		want     declaration
		bad      bool
	}{
		{declared: ""},
		{declared: "/docker/abc", want: declaration{path: "/docker/abc"}},
		{declared: "/foo//bar/../abc/", want: declaration{path: "/foo/abc"}},
		{declared: "/", bad: true},
		{declared: "/..", bad: true},
		{declared: "..", bad: true},
		{declared: "/a\x00b", bad: true},
		{declared: "relative/abc", want: declaration{ending: "relative/abc"}},
		{declared: "../../relative//abc/", want: declaration{ending: "relative/abc"}},
		{declared: "a:b", want: declaration{ending: "a:b"}},
		{declared: "system.slice:docker:abc", want: declaration{"/system.slice/docker-abc.scope", "system.slice:docker:abc"}},
		{declared: ":docker:abc", want: declaration{"/system.slice/docker-abc.scope", ":docker:abc"}},
		{declared: "-.slice:docker:abc", want: declaration{"/docker-abc.scope", "-.slice:docker:abc"}},
		{declared: "kubepods-burstable-podx_y.slice:cri-containerd:abc", want: declaration{
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx_y.slice/cri-containerd-abc.scope", "kubepods-burstable-podx_y.slice:cri-containerd:abc"}},
		{declared: "a-b.slice::n", want: declaration{"/a.slice/a-b.slice/-n.scope", "a-b.slice::n"}},
		{declared: "system.slice:x:inner.slice", want: declaration{"/system.slice/inner.slice", "system.slice:x:inner.slice"}},
		{declared: "user.slice:libpod:abc", uid: 1000, want: declaration{"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-abc.scope", "user.slice:libpod:abc"}},
		{declared: ":libpod:abc", uid: 7, want: declaration{"/user.slice/user-7.slice/user@7.service/user.slice/libpod-abc.scope", ":libpod:abc"}},
		// No unit: a runtime takes it for a path, or refuses it.
		{declared: "system.slice:docker:", want: declaration{ending: "system.slice:docker:"}},
		{declared: "system.slice:docker:../x", want: declaration{ending: "system.slice:docker:../x"}},
		{declared: "system.slice:../../docker:x", want: declaration{ending: "docker:x"}},
		{declared: "no-slice:docker:x", want: declaration{ending: "no-slice:docker:x"}},
		{declared: "a--b.slice:docker:x", want: declaration{ending: "a--b.slice:docker:x"}},
		{declared: ".slice:docker:x", want: declaration{ending: ".slice:docker:x"}},
		{declared: "/" + strings.Repeat("x", 5000), bad: true},
		{declared: strings.Repeat("a-", 124) + "a.slice:x:y", want: declaration{nested(125) + "/x-y.scope", strings.Repeat("a-", 124) + "a.slice:x:y"}},
		{declared: strings.Repeat("a-", 125) + "a.slice:x:y", want: declaration{ending: strings.Repeat("a-", 125) + "a.slice:x:y"}}, // 257 bytes
	} {
		got, err := declare(test.declared, test.uid)
		if got != test.want || (err != nil) != test.bad {
			t.Errorf("%.60q, uid %d: %.200q, %v; want %.200q, error %v", test.declared, test.uid, got, err, test.want, test.bad)
		}
	}
}

// nested is the path of the slice a-a-….slice with n letters.
func nested(n int) (path string) {
	for i := range n {
		path += "/" + strings.Repeat("a-", i) + "a.slice"
	}
	return path
}

func FuzzDeclare(f *testing.F) {
	for _, s := range []string{"", "/docker/x", "a-b.slice:p:n", ":p:n", "-.slice:p:n", "::", "/../x", "a:b:c.slice", "x/y", ".."} {
		f.Add(s, uint32(0), s)
		f.Add(s, uint32(1000), "/a/"+s)
	}
	f.Fuzz(func(t *testing.T, text string, uid uint32, made string) {
		d, err := declare(text, uid)
		if err != nil && d != (declaration{}) {
			t.Fatalf("%q: a path and an error", text)
		}
		for _, p := range []string{d.path, "/" + d.ending} {
			if p != "" && p != "/" && (path.Clean(p) != p || p[0] != '/') {
				t.Fatalf("%q: %q is no clean path of a cgroup", text, p)
			}
		}
		if uid != 0 && d.path != "" && text[0] != '/' && !strings.HasPrefix(d.path, userManager(uid)+"/") {
			t.Fatalf("%q: %q leaves the user's manager", text, d.path)
		}
		at, err := d.settle(madePaths(map[string]string{"": "/sys/fs/cgroup/unified" + made, "pids": "/sys/fs/cgroup/pids/" + made}), "abc")
		if err != nil && (at.path != "" || at.byController != nil) || at.path != "" && (path.Clean(at.path) != at.path || at.path == "/") {
			t.Fatalf("%q, made %q: %+v, %v", text, made, at, err)
		}
	})
}

// What the runtime notes decides, within what the bundle declares.
func TestSettle(t *testing.T) {
	both := func(a, b string) map[string]string { return map[string]string{"pids": a, "memory": b} }
	for name, test := range map[string]struct {
		declared   string
		made       map[string]string
		want       string
		in         string // a hierarchy, and the path there
		wantIn     string
		contradict bool
	}{
		"nothing noted":                   {declared: "/docker/a", want: "/docker/a"},
		"nothing noted, relative":         {declared: "docker/a"},
		"as declared":                     {declared: "/docker/a", made: both("/docker/a", "/docker/a"), want: "/docker/a"},
		"below what is declared":          {declared: "/docker/a", made: both("/docker/a/container", "/docker/a"), want: "/docker/a"},
		"another than declared":           {declared: "/docker/a", made: both("/docker/a", "/docker/b"), contradict: true},
		"a name that begins so":           {declared: "/docker/a", made: both("/docker/ab", "/docker/ab"), contradict: true},
		"relative":                        {declared: "p/a", made: both("/engine/p/a", "/engine/p/a"), want: "/engine/p/a"},
		"relative, at the root":           {declared: "p/a", made: both("/p/a", "/p/a"), want: "/p/a"},
		"relative, apart":                 {declared: "p/a", made: both("/p/a", "/engine/p/a"), want: "/engine/p/a", in: "pids", wantIn: "/p/a"},
		"relative, and another":           {declared: "p/a", made: both("/p/a", "/engine/p/b"), contradict: true},
		"relative, and a longer name":     {declared: "p/a", made: both("/xp/a", "/xp/a"), contradict: true},
		"systemd's unit":                  {declared: "x.slice:p:a", made: both("/x.slice/p-a.scope", "/x.slice/p-a.scope"), want: "/x.slice/p-a.scope"},
		"not the unit, a path":            {declared: "x.slice:p:a", made: both("/sys/x.slice:p:a", "/x.slice:p:a"), want: "/x.slice:p:a", in: "pids", wantIn: "/sys/x.slice:p:a"},
		"neither":                         {declared: "x.slice:p:a", made: both("/x.slice/a", "/x.slice/a"), contradict: true},
		"none declared, its id":           {made: both("/sys/a", "/sys/a"), want: "/sys/a"},
		"none declared, another's cgroup": {made: both("/system.slice/ssh.service", "/a"), want: ""},
	} {
		d, err := declare(test.declared, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.settle(test.made, "a")
		if (err != nil) != test.contradict || got.path != test.want {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, test.want)
		}
		r := Record{CgroupPath: got.path, details: details{byController: got.byController}}
		if test.in != "" && (r.CgroupIn(test.in) != test.wantIn || r.CgroupIn("rdma,"+test.in) != test.wantIn || r.CgroupIn("rdma") != "" || r.CgroupIn(got.hierarchy) != test.want) {
			t.Errorf("%s: in %s %q, elsewhere %q", name, test.in, r.CgroupIn(test.in), r.CgroupIn("rdma"))
		}
		if test.in == "" && r.CgroupIn("rdma") != test.want {
			t.Errorf("%s: in another hierarchy %q", name, r.CgroupIn("rdma"))
		}
	}
}

func TestMadePaths(t *testing.T) {
	many := make(map[string]string)
	for i := range maxControllers + 1 {
		many[strings.Repeat("x", i)] = "/sys/fs/cgroup/x/docker/a"
	}
	for _, test := range []struct{ dirs, want map[string]string }{
		{map[string]string{"": "/sys/fs/cgroup/system.slice/docker-a.scope"}, map[string]string{"": "/system.slice/docker-a.scope"}},
		{map[string]string{"": "/sys/fs/cgroup/unified/docker/a", "pids": "/sys/fs/cgroup/pids/docker/a"}, map[string]string{"": "/docker/a", "pids": "/docker/a"}},
		{map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct/x/a", "name=systemd": "/sys/fs/cgroup/systemd/a"}, map[string]string{"cpu": "/x/a", "name=systemd": "/a"}},
		{map[string]string{"pids": "/elsewhere/pids/docker/a"}, nil},
		{map[string]string{"pids": "/sys/fs/cgroup/pids"}, nil}, // the root is nobody's
		{map[string]string{"pids": "/sys/fs/cgroup/pids/docker/a", "cpu": "/sys/fs/cgroup/../a"}, nil},
		{many, nil},
		{nil, nil},
	} {
		if got := madePaths(test.dirs); !maps.Equal(got, test.want) {
			t.Errorf("%v: %q, want %q", test.dirs, got, test.want)
		}
	}
}
