package launch

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestPower(t *testing.T) {
	device := func(path, kind string, major, minor int) map[string]any {
		return map[string]any{"path": path, "type": kind, "major": major, "minor": minor}
	}
	for name, test := range map[string]struct {
		change change
		want   []string
	}{
		"plain":        {func(map[string]any) {}, nil},
		"capability":   {add("process.capabilities.bounding", "CAP_SYS_PTRACE"), []string{"capability:CAP_SYS_PTRACE"}},
		"ambient":      {set("process.capabilities.ambient", []any{"CAP_BPF"}), []string{"capability:CAP_BPF"}},
		"seccomp open": {set("linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"), []string{"unconfined:seccomp"}},
		"seccomp logs": {set("linux.seccomp", map[string]any{"defaultAction": "SCMP_ACT_LOG"}), []string{"unconfined:seccomp"}},
		"seccomp off":  {drop("linux.seccomp"), []string{"unconfined:seccomp"}},
		"apparmor off": {set("process.apparmorProfile", "unconfined"), []string{"unconfined:apparmor"}},
		"apparmor":     {set("process.apparmorProfile", "docker-default"), nil},
		"selinux off":  {set("process.selinuxLabel", "system_u:system_r:spc_t:s0"), []string{"unconfined:selinux"}},
		"selinux":      {set("process.selinuxLabel", "system_u:system_r:container_t:s0:c1,c2"), nil},
		"paths open":   {drop("linux.readonlyPaths"), []string{"unconfined:paths"}},
		"a path open":  {set("linux.readonlyPaths", []any{"/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}), []string{"unconfined:paths"}},
		"another proc": {add("mounts", mount("/p", "proc", "proc")), []string{"unconfined:paths"}},
		"pid=host":     {without("linux.namespaces", "type", "pid"), []string{"namespace:pid"}},
		"ipc=host":     {without("linux.namespaces", "type", "ipc"), []string{"namespace:ipc"}},
		"net=host":     {without("linux.namespaces", "type", "network"), []string{"namespace:network"}},
		"uts=host":     {without("linux.namespaces", "type", "uts"), []string{"namespace:uts"}},
		"pid of init": {func(c map[string]any) {
			without("linux.namespaces", "type", "pid")(c)
			add("linux.namespaces", map[string]any{"type": "pid", "path": "/proc/1/ns/pid"})(c)
		}, []string{"namespace:pid"}},
		"device":             {set("linux.devices", []any{device("/dev/kvm", "c", 10, 232)}), []string{"device:c:10:232"}},
		"disk":               {set("linux.devices", []any{device("/dev/x", "b", 254, 0)}), []string{"device:b:254:0"}},
		"usual device":       {set("linux.devices", []any{device("/dev/foo", "c", 1, 3)}), nil},
		"device rule":        {add("linux.resources.devices", map[string]any{"allow": true, "type": "c", "major": 7, "access": "rw"}), []string{"device:c:7:*"}},
		"denying rule":       {add("linux.resources.devices", map[string]any{"allow": false, "type": "c", "major": 7, "access": "rw"}), nil},
		"every device":       {set("linux.resources.devices", []any{map[string]any{"allow": true, "access": "rwm"}}), []string{"device:*"}},
		"all, to make":       {add("linux.resources.devices", map[string]any{"allow": true, "type": "a", "access": "m"}), []string{"device:*"}},
		"all by one":         {add("linux.resources.devices", map[string]any{"allow": true, "type": "a", "major": 1, "minor": 3, "access": "r"}), []string{"device:*"}},
		"all but one":        {set("linux.resources.devices", []any{map[string]any{"allow": false, "type": "a", "major": 1, "minor": 3, "access": "rwm"}}), []string{"device:*"}},
		"no device rules":    {drop("linux.resources"), []string{"device:*"}},
		"docker's socket":    {add("mounts", mount("/s", "bind", "/var/run/docker.sock", "rbind", "ro")), []string{"socket:docker"}},
		"read-only run":      {add("mounts", mount("/s", "bind", "/run", "rbind", "ro")), []string{"socket:cima-admin", "socket:containerd", "socket:crio", "socket:dbus", "socket:docker", "socket:podman", "socket:systemd"}},
		"cima, read-only":    {add("mounts", mount("/run/cima", "bind", "/run/cima", "rbind", "ro")), nil},
		"cima, writable":     {add("mounts", mount("/run/cima", "bind", "/run/cima", "rbind")), []string{"mount:/run/cima"}},
		"etc":                {add("mounts", mount("/e", "bind", "/etc/ssh", "rbind")), []string{"mount:/etc"}},
		"etc, ro undone":     {add("mounts", mount("/e", "bind", "/etc/ssh", "ro", "rw", "bind")), []string{"mount:/etc"}},
		"etc, read-only":     {add("mounts", mount("/e", "bind", "/etc/ssh", "rbind", "ro")), nil},
		"bind in disguise":   {add("mounts", mount("/e", "none", "/etc/ssh", "rbind")), []string{"mount:/etc"}},
		"cgroups":            {add("mounts", mount("/c", "bind", "/sys/fs/cgroup", "rbind")), []string{"mount:/sys", "mount:/sys/fs/cgroup"}},
		"proc":               {add("mounts", mount("/p", "bind", "/proc/sys/kernel", "rbind")), []string{"mount:/proc"}},
		"writable sysfs":     {add("mounts", mount("/sys2", "sysfs", "sysfs", "nosuid")), []string{"mount:/sys"}},
		"writable cgroupfs":  {add("mounts", mount("/c", "cgroup", "cgroup", "nosuid")), []string{"mount:/sys/fs/cgroup"}},
		"storage":            {add("mounts", mount("/d", "bind", "/var/lib/containers/storage/x", "rbind")), []string{"engine-storage"}},
		"other's volume":     {add("mounts", mount("/d", "bind", "/var/lib/docker/containers/x", "rbind")), []string{"engine-storage"}},
		"a volume":           {add("mounts", mount("/d", "bind", "/var/lib/docker/volumes/v/_data", "rbind")), nil},
		"srv":                {add("mounts", mount("/d", "bind", "/srv/data", "rbind")), nil},
		"no source":          {add("mounts", mount("/d", "bind", "/srv/gone", "rbind", "ro")), []string{"unresolved-mount"}},
		"relative":           {add("mounts", mount("/d", "bind", "../../../../host/etc", "rbind")), []string{"unresolved-mount"}},
		"joined, gone":       {add("linux.namespaces", map[string]any{"type": "ipc", "path": "/gone/ns"}), []string{"namespace:ipc"}},
		"root is the host's": {set("root", map[string]any{"path": "/", "readonly": true}), []string{"socket:cima-admin", "socket:containerd", "socket:crio", "socket:dbus", "socket:docker", "socket:podman", "socket:systemd"}},
		"root is etc":        {set("root.path", "/etc/ssh"), []string{"mount:/etc"}},
		"root is a link":     {set("root.path", "/bin"), []string{"mount:/bin", "mount:/usr"}},
		"root of its own":    {set("root.path", "/srv/data"), nil},
		"no cgroup":          {set("linux.cgroupsPath", ""), []string{"no-cgroup"}},
	} {
		x := newTree(t)
		x.host()
		c := config(t, "docker")
		test.change(c)
		id := strings.Repeat("a1", 32)
		x.write("task/moby/"+id+"/config.json", encode(t, c))
		r := x.list()[id]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if diff := cmp.Diff(test.want, powerOf(t, x.store, r)); diff != "" && len(test.want)+len(powerOf(t, x.store, r)) > 0 {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPowerOfPrivileged(t *testing.T) {
	x := newTree(t)
	for place, name := range map[string]string{"a1": "docker-privileged"} {
		id := strings.Repeat(place, 32)
		x.write("task/moby/"+id+"/config.json", encode(t, config(t, name)))
		r := x.list()[id]
		for _, want := range []string{"privileged", "device:*", "capability:CAP_SYS_ADMIN", "unconfined:seccomp", "unconfined:paths", "mount:/sys", "mount:/sys/fs/cgroup"} {
			if !slices.Contains(powerOf(t, x.store, r), want) {
				t.Errorf("%s lacks %s: %v", name, want, powerOf(t, x.store, r))
			}
		}
		if !slices.IsSorted(powerOf(t, x.store, r)) {
			t.Error("not sorted")
		}
	}
}

// Symlinks, and directories that are a part of the host by another name, do
// not hide what they are.
func TestPowerByAnotherName(t *testing.T) {
	x := newTree(t)
	symlink(x, "/etc", filepath.Join(x.dir, "harmless"))
	symlink(x, "/", filepath.Join(x.dir, "slash"))
	symlink(x, "/usr/share", filepath.Join(x.dir, "below"))
	for source, want := range map[string]string{"/harmless": "mount:/etc", "/harmless/ssh/..": "mount:/etc", "/slash": "mount:/", "/below": "mount:/usr"} {
		x.bundle("moby", id(1), "/docker/"+id(1), add("mounts", mount("/x", "bind", x.dir+source, "rbind")))
		if r := x.list()[id(1)]; !slices.Contains(powerOf(t, x.store, r), want) {
			t.Errorf("%s: %v", source, powerOf(t, x.store, r))
		}
	}
}

// So does a volume whose driver mounts a part of the host.
func TestPowerByAnotherMount(t *testing.T) {
	if os.Getuid() != 0 {
		unavailable(t, "needs root: mounts a directory")
	}
	volume := t.TempDir()
	seen := make(chan []string)
	go func() {
		defer close(seen)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		if unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS) != nil ||
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil ||
			unix.Mount("/etc", volume, "", unix.MS_BIND, "") != nil {
			return
		}
		h := hostTree{trust: Trust{}}
		marks := h.landmarks("")
		seen <- slices.Concat(h.judge(bind{source: volume}, marks).powers, h.judge(bind{source: volume + "/ssl"}, marks).powers)
	}()
	if same := <-seen; len(same) != 2 || same[0] != "mount:/etc" || same[1] != "mount:/etc" {
		t.Error(same)
	}
}

func TestPowerOfCgroupParent(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(1)+"/"+id(2))
	x.bundle("moby", id(3), "/docker/"+id(9)+"/"+id(3)) // a podman pod's form: no container
	x.bundle("k8s.io", id(4), "/pod/crio-"+id(1)+".scope/"+id(4), set("annotations", map[string]any{"io.kubernetes.cri.sandbox-id": id(1)}))
	all := x.list()
	for n, want := range map[int]bool{1: false, 2: true, 3: false, 4: false} {
		if got := slices.Contains(powerOf(t, x.store, all[id(n)]), PowerCgroupParent); got != want {
			t.Errorf("container %d: %v", n, powerOf(t, x.store, all[id(n)]))
		}
	}
}

func TestPowerOfNothing(t *testing.T) {
	if p := powerOf(t, New(Options{}), Record{}); len(p) != 1 || p[0] != PowerNoMetadata {
		t.Error(p)
	}
	if p := powerOf(t, New(Options{}), Record{Launch: Launch{Source: SourceNone}}); len(p) != 1 || p[0] != PowerNoMetadata {
		t.Error(p)
	}
}

// "ro" holds for the topmost mount of a recursive bind; what is mounted below
// can be written, unless the mount is recursively read-only (docker 25).
func TestPowerBelowAReadOnlyMount(t *testing.T) {
	x := newTree(t)
	for _, tt := range []struct {
		options []any
		want    bool
	}{
		{[]any{"rbind", "ro"}, true},
		{[]any{"rbind", "rro"}, false},
		{[]any{"rbind", "ro", "rro"}, false},
		{[]any{"bind", "ro"}, false},
	} {
		m := mount("/h", "bind", "/", "x")
		m["options"] = tt.options
		x.bundle("moby", id(1), "/docker/"+id(1), add("mounts", m))
		power := powerOf(t, x.store, x.list()[id(1)])
		if got := slices.Contains(power, "mount:/proc"); got != tt.want {
			t.Errorf("%v: %v", tt.options, power)
		}
		if slices.Contains(power, "mount:/") {
			t.Errorf("%v can write /: %v", tt.options, power)
		}
	}
}
