package records

import (
	"path"
	"strings"
	"testing"
)

func TestCgroupPath(t *testing.T) {
	for _, test := range []struct {
		declared string
		uid      uint32
		want     string
		bad      bool
	}{
		{declared: "", want: ""},
		{declared: "/docker/abc", want: "/docker/abc"},
		{declared: "/foo//bar/../abc/", want: "/foo/abc"},
		{declared: "/", bad: true},
		{declared: "/..", bad: true},
		{declared: "/a\x00b", bad: true},
		{declared: "relative/abc", want: ""}, // the runtime's state has the path
		{declared: "a:b", want: ""},
		{declared: "system.slice:docker:abc", want: "/system.slice/docker-abc.scope"},
		{declared: ":docker:abc", want: "/system.slice/docker-abc.scope"},
		{declared: "-.slice:docker:abc", want: "/docker-abc.scope"},
		{declared: "machine.slice:libpod:abc", want: "/machine.slice/libpod-abc.scope"},
		{declared: "kubepods-burstable-podx_y.slice:cri-containerd:abc", want: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx_y.slice/cri-containerd-abc.scope"},
		{declared: "a-b.slice::n", want: "/a.slice/a-b.slice/-n.scope"},
		{declared: "system.slice:x:inner.slice", want: "/system.slice/inner.slice"},
		{declared: "user.slice:libpod:abc", uid: 1000, want: "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-abc.scope"},
		{declared: ":libpod:abc", uid: 7, want: "/user.slice/user-7.slice/user@7.service/user.slice/libpod-abc.scope"},
		{declared: "system.slice:docker:", bad: true},
		{declared: "system.slice:docker:../x", bad: true},
		{declared: "system.slice:../../docker:x", bad: true},
		{declared: "no-slice:docker:x", bad: true},
		{declared: "a--b.slice:docker:x", bad: true},
		{declared: "../x.slice:docker:x", bad: true},
		{declared: ".slice:docker:x", bad: true},
		{declared: "/" + strings.Repeat("x", 5000), bad: true},
		{declared: strings.Repeat("a-", 124) + "a.slice:x:y", want: nested(125) + "/x-y.scope"},
		{declared: strings.Repeat("a-", 125) + "a.slice:x:y", bad: true}, // 257 bytes
	} {
		got, err := cgroupPath(test.declared, test.uid)
		if got != test.want || (err != nil) != test.bad {
			t.Errorf("%.60q, uid %d: %.60q, %v; want %.60q, error %v", test.declared, test.uid, got, err, test.want, test.bad)
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

func FuzzCgroupPath(f *testing.F) {
	for _, s := range []string{"", "/docker/x", "a-b.slice:p:n", ":p:n", "-.slice:p:n", "::", "/../x", "a:b:c.slice"} {
		f.Add(s, uint32(0))
		f.Add(s, uint32(1000))
	}
	f.Fuzz(func(t *testing.T, declared string, uid uint32) {
		got, err := cgroupPath(declared, uid)
		if err != nil && got != "" {
			t.Fatalf("%q: a path and an error", declared)
		}
		if got == "" {
			return
		}
		if path.Clean(got) != got || got[0] != '/' || got == "/" {
			t.Fatalf("%q: %q is no clean path of a cgroup", declared, got)
		}
		if uid != 0 && declared[0] != '/' && !strings.HasPrefix(got, userManager(uid)+"/") {
			t.Fatalf("%q: %q leaves the user's manager", declared, got)
		}
		if again, err := cgroupPath(declared, uid); again != got || err != nil {
			t.Fatalf("%q: %q the second time", declared, again)
		}
	})
}

func TestActualPath(t *testing.T) {
	for _, test := range []struct {
		paths map[string]string
		want  string
	}{
		{map[string]string{"": "/sys/fs/cgroup/system.slice/docker-a.scope"}, "/system.slice/docker-a.scope"},
		{map[string]string{"": "/sys/fs/cgroup/unified/docker/a", "pids": "/sys/fs/cgroup/pids/docker/a", "name=systemd": "/sys/fs/cgroup/systemd/docker/a"}, "/docker/a"},
		{map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct/docker/a", "pids": "/sys/fs/cgroup/pids/docker/a"}, "/docker/a"},
		{map[string]string{"pids": "/sys/fs/cgroup/pids/docker/a", "cpu": "/sys/fs/cgroup/cpu/docker/b"}, ""},
		{map[string]string{"pids": "/elsewhere/pids/docker/a"}, ""},
		{nil, ""},
	} {
		if got := actualPath(test.paths); got != test.want {
			t.Errorf("%v: %q, want %q", test.paths, got, test.want)
		}
	}
}
