package power

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/launchtest"
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
		x.makeHost()
		c := config(t, "docker")
		test.change(c)
		id := strings.Repeat("a1", 32)
		x.read(c, id, "docker")
		if diff := cmp.Diff(test.want, x.judge(id)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPowerOfPrivileged(t *testing.T) {
	x := newTree(t)
	for place, name := range map[string]string{"a1": "docker-privileged"} {
		id := strings.Repeat(place, 32)
		x.read(config(t, name), id, "docker")
		for _, want := range []string{"privileged", "device:*", "capability:CAP_SYS_ADMIN", "unconfined:seccomp", "unconfined:paths", "mount:/sys", "mount:/sys/fs/cgroup"} {
			if !slices.Contains(x.judge(id), want) {
				t.Errorf("%s lacks %s: %v", name, want, x.judge(id))
			}
		}
		if !slices.IsSorted(x.judge(id)) {
			t.Error("not sorted")
		}
	}
}

// The cgroup of another container gives power; that of the pod's first
// container does not.
func TestInCgroup(t *testing.T) {
	isContainer := func(name string) bool { return name == id(1) || name == id(2) || name == id(3) }
	f := Facts{bundle: &bundleFacts{id: id(2), sandbox: id(3)}}
	for cgroup, want := range map[string][]string{
		"/docker/" + id(2):                       nil,
		"/docker/" + id(1) + "/" + id(2):         {classCgroupParent},
		"/docker-" + id(1) + ".scope/" + id(2):   {classCgroupParent},
		"/pod/crio-" + id(3) + ".scope/" + id(2): nil,
		"/docker/" + id(2) + "/" + id(2):         nil,
		"/docker/" + id(9) + "/" + id(2):         nil, // a podman pod's form: no container
		"":                                       {classNoCgroup},
	} {
		for range 2 { // twice, because classes must not add up
			if f = f.InCgroup(cgroup, isContainer); !slices.Equal(f.cgroup, want) {
				t.Errorf("%s: %v, want %v", cgroup, f.cgroup, want)
			}
		}
	}
}

// A rootless engine's container has no power.
func TestJudgeNothing(t *testing.T) {
	power, err := Judge(t.Context(), Facts{}.InCgroup("", nil), nil)
	if len(power) > 0 || err != nil {
		t.Errorf("%v, %v", power, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Judge(ctx, Facts{}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Any config.json can be judged.
func FuzzJudge(f *testing.F) {
	for _, name := range launchtest.Names(f) {
		f.Add(encode(f, config(f, name)))
	}
	f.Add([]byte(`{"process":{},"linux":{"namespaces":[{"type":"pid","path":"x"}]},"mounts":[{"type":"bind"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := launch.Parse(raw, "")
		if err != nil {
			return
		}
		l, err := launch.Normalise(c, "", launch.Rules{}, launch.Known{})
		if err != nil {
			return
		}
		h := Host{Root: t.TempDir()}
		h.Namespaces(c)
		facts := Of(h, c, l, "", "/bundle")
		power, err := Judge(t.Context(), facts, func(context.Context) ([]Other, error) { return []Other{{Facts: facts}}, nil })
		if err != nil || !slices.IsSorted(power) {
			t.Fatal(power, err)
		}
	})
}

// The manual has each class.
func TestManualNamesEachClass(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "man", "cima-evidence.7.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{classPrivileged, classUnconfined, classCapability, classDevice, classNamespace, classMount, classUnresolvedMount, classReplaceableMount, classEngineStorage, classSocket, classCgroupParent, classNoCgroup, classAnnotation, NoMetadata} {
		if !strings.Contains(string(text), "\n| "+class) {
			t.Errorf("cima-evidence(7) has no class %s", class)
		}
	}
}

// An instruction to the runtime in an annotation counts like one in the
// specification.
func TestPowerOfAnnotations(t *testing.T) {
	for name, power := range map[string]string{
		"run.oci.seccomp_bpf_data":             "unconfined:seccomp",
		"run.oci.seccomp.plugins":              "annotation:run.oci.*",
		"run.oci.seccomp.receiver":             "annotation:run.oci.*",
		"run.oci.hooks.stdout":                 "annotation:run.oci.*",
		"run.oci.hooks.stderr":                 "annotation:run.oci.*",
		"run.oci.systemd.force_cgroup_v1":      "annotation:run.oci.*",
		"run.oci.handler":                      "annotation:run.oci.*",
		"run.oci.of.tomorrow":                  "annotation:run.oci.*",
		"org.systemd.property.DeviceAllow":     "annotation:org.systemd.property.*",
		"org.criu.config":                      "annotation:org.criu.*",
		"module.wasm.image/variant":            "annotation:module.wasm.*",
		"run.oci.systemd.subgroup":             "annotation:run.oci.*",
		"run.oci.keep_original_groups":         "",
		"run.oci.mount_context_type":           "",
		"run.oci.timens_offset":                "",
		"org.systemd.property.KillSignal":      "",
		"org.systemd.property.TimeoutStopUSec": "",
	} {
		c := config(t, "podman")
		c["annotations"].(map[string]any)[name] = "x"
		x := newTree(t)
		x.makeHost()
		x.read(c, id(1), "podman")
		if got := x.judge(id(1)); power == "" && len(got) > 0 || power != "" && !slices.Equal(got, []string{power}) {
			t.Errorf("%s: %v, not %q", name, got, power)
		}
	}
}
