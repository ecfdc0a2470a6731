package power

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/launchtest"
)

// The classes that a specification shows by itself.
func TestClassesOfSpecification(t *testing.T) {
	device := func(path, kind string, major, minor int) map[string]any {
		return map[string]any{"path": path, "type": kind, "major": major, "minor": minor}
	}
	rule := func(rule map[string]any) change { return add("linux.resources.devices", rule) }
	sysctl := func(name string) change { return set("linux.sysctl", map[string]any{name: "1"}) }
	both := func(changes ...change) change {
		return func(c map[string]any) {
			for _, do := range changes {
				do(c)
			}
		}
	}
	for name, test := range map[string]struct {
		change change
		want   []string
	}{
		"plain":                 {func(map[string]any) {}, nil},
		"capability":            {add("process.capabilities.bounding", "CAP_SYS_PTRACE"), []string{"capability:CAP_SYS_PTRACE"}},
		"ambient":               {set("process.capabilities.ambient", []any{"CAP_BPF"}), []string{"capability:CAP_BPF"}},
		"no capability's name":  {add("process.capabilities.bounding", "CAP_MY_SECRET"), []string{"capability:other"}},
		"seccomp open":          {set("linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"), []string{"unconfined:seccomp"}},
		"seccomp logs":          {set("linux.seccomp", map[string]any{"defaultAction": "SCMP_ACT_LOG"}), []string{"unconfined:seccomp"}},
		"seccomp asks":          {set("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY"), []string{"unconfined:seccomp"}},
		"seccomp kills":         {set("linux.seccomp.defaultAction", "SCMP_ACT_KILL_PROCESS"), nil},
		"seccomp off":           {drop("linux.seccomp"), []string{"unconfined:seccomp"}},
		"seccomp listener":      {set("linux.seccomp.listenerPath", "/run/s"), []string{"confined:seccomp"}},
		"seccomp loads modules": {add("linux.seccomp.syscalls", map[string]any{"names": []any{"init_module"}, "action": "SCMP_ACT_ALLOW"}), []string{"confined:seccomp"}},
		"seccomp asks for one":  {add("linux.seccomp.syscalls", map[string]any{"names": []any{"bpf"}, "action": "SCMP_ACT_NOTIFY"}), []string{"confined:seccomp"}},
		"modules, by capability": {both(add("process.capabilities.bounding", "CAP_SYS_MODULE"),
			add("linux.seccomp.syscalls", map[string]any{"names": []any{"init_module", "delete_module"}, "action": "SCMP_ACT_ALLOW"})), []string{"capability:CAP_SYS_MODULE"}},
		"modules, by another": {both(add("process.capabilities.bounding", "CAP_SYS_TIME"),
			add("linux.seccomp.syscalls", map[string]any{"names": []any{"init_module"}, "action": "SCMP_ACT_ALLOW"})), []string{"capability:CAP_SYS_TIME", "confined:seccomp"}},
		"seccomp refuses":      {add("linux.seccomp.syscalls", map[string]any{"names": []any{"bpf"}, "action": "SCMP_ACT_ERRNO"}), nil},
		"apparmor off":         {set("process.apparmorProfile", "unconfined"), []string{"unconfined:apparmor"}},
		"apparmor of a user's": {set("process.apparmorProfile", "mine"), []string{"confined:apparmor"}},
		"apparmor":             {set("process.apparmorProfile", "docker-default"), nil},
		"selinux off":          {set("process.selinuxLabel", "system_u:system_r:spc_t:s0"), []string{"unconfined:selinux"}},
		"selinux of a user's":  {set("process.selinuxLabel", "system_u:system_r:my_t:s0"), []string{"confined:selinux"}},
		"selinux":              {set("process.selinuxLabel", "system_u:system_r:container_t:s0:c1,c2"), nil},
		"paths open":           {drop("linux.readonlyPaths"), []string{"unconfined:paths"}},
		"a path open":          {set("linux.readonlyPaths", []any{"/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}), []string{"unconfined:paths"}},
		"unmasked":             {drop("linux.maskedPaths"), []string{"unconfined:paths"}},
		"another proc":         {add("mounts", mount("/p", "proc", "proc")), []string{"unconfined:paths"}},
		"another proc, ro":     {add("mounts", mount("/p", "proc", "proc", "ro")), nil},
		"pid=host":             {without("linux.namespaces", "type", "pid"), []string{"namespace:pid"}},
		"ipc=host":             {without("linux.namespaces", "type", "ipc"), []string{"namespace:ipc"}},
		"net=host":             {without("linux.namespaces", "type", "network"), []string{"namespace:network", "sysctl:net.ipv4"}},
		"uts=host":             {without("linux.namespaces", "type", "uts"), []string{"namespace:uts"}},
		"mount=host":           {without("linux.namespaces", "type", "mount"), []string{"namespace:mount"}},
		"pid of init": {func(c map[string]any) {
			without("linux.namespaces", "type", "pid")(c)
			add("linux.namespaces", map[string]any{"type": "pid", "path": "/proc/1/ns/pid"})(c)
		}, []string{"namespace:pid"}},
		"device":                 {set("linux.devices", []any{device("/dev/kvm", "c", 10, 232)}), []string{"device:c:10:232"}},
		"disk":                   {set("linux.devices", []any{device("/dev/x", "b", 254, 0)}), []string{"device:b:254:0"}},
		"usual device":           {set("linux.devices", []any{device("/dev/foo", "c", 1, 3)}), nil},
		"device rule":            {rule(map[string]any{"allow": true, "type": "c", "major": 7, "access": "rw"}), []string{"device:c:7:*"}},
		"usual, read alone":      {rule(map[string]any{"allow": true, "type": "c", "major": 1, "minor": 7, "access": "r"}), nil},
		"usual number of a disk": {rule(map[string]any{"allow": true, "type": "b", "major": 1, "minor": 7, "access": "r"}), []string{"device:b:1:7"}},
		"every minor":            {rule(map[string]any{"allow": true, "type": "c", "major": 1, "access": "r"}), []string{"device:c:1:*"}},
		"denying rule":           {rule(map[string]any{"allow": false, "type": "c", "major": 7, "access": "rw"}), nil},
		"every device":           {set("linux.resources.devices", []any{map[string]any{"allow": true, "access": "rwm"}}), []string{"device:*"}},
		"all, to make":           {rule(map[string]any{"allow": true, "type": "a", "access": "m"}), []string{"device:*"}},
		"all by one":             {rule(map[string]any{"allow": true, "type": "a", "major": 1, "minor": 3, "access": "r"}), []string{"device:*"}},
		"all but one":            {set("linux.resources.devices", []any{map[string]any{"allow": false, "type": "a", "major": 1, "minor": 3, "access": "rwm"}}), []string{"device:*"}},
		"no device rules":        {drop("linux.resources"), []string{"device:*"}},
		"no cgroup":              {set("linux.cgroupsPath", ""), []string{"no-cgroup"}},
		"sysctl of net":          {sysctl("net.ipv4.ip_forward"), nil},
		"with slashes":           {sysctl("net/ipv4/conf/eth0.1/forwarding"), nil},
		"sysctl of ipc":          {sysctl("kernel.shmmax"), nil},
		"sysctl of mqueue":       {sysctl("fs.mqueue.msg_max"), nil},
		"kernel's sysctl":        {sysctl("kernel.core_pattern"), []string{"sysctl:kernel.core_pattern"}},
		"vm's, by slashes":       {sysctl("vm/overcommit_memory"), []string{"sysctl:vm.overcommit_memory"}},
		"nobody's sysctl":        {sysctl("my.secret"), []string{"sysctl:other"}},
		"net's on the host":      {both(without("linux.namespaces", "type", "network"), sysctl("net.ipv4.conf.secret0.forwarding")), []string{"namespace:network", "sysctl:net.ipv4"}},
		"hook":                   {set("hooks.createRuntime", []any{map[string]any{"path": "/bin/true"}}), []string{"hook:createRuntime"}},
		"docker's with env": {func(c map[string]any) {
			c["hooks"].(map[string]any)["prestart"].([]any)[0].(map[string]any)["env"] = []any{"LD_PRELOAD=/x"}
		}, []string{"hook:prestart"}},
		"shared root":        {set("linux.rootfsPropagation", "rshared"), []string{"setting:linux.rootfsPropagation"}},
		"slave root":         {set("linux.rootfsPropagation", "rslave"), nil},
		"shared mount":       {add("mounts", mount("/d", "bind", "/srv/data", "rbind", "rshared")), []string{"propagation"}},
		"overlay":            {add("mounts", mount("/d", "overlay", "overlay", "lowerdir=/etc", "upperdir=/u")), []string{"mount-option"}},
		"tmpfs":              {add("mounts", mount("/d", "tmpfs", "tmpfs", "size=64m", "mode=1777", "nosuid")), nil},
		"hides processes":    {add("mounts", mount("/proc", "proc", "proc", "ro", "hidepid=2", "subset=pid")), nil},
		"a word of podman's": {add("mounts", mount("/d", "bind", "/srv/data", "rbind", "nocopy")), nil},
		"an option's value":  {add("mounts", mount("/d", "cifs", "//x/y", "password=secret")), []string{"mount-option"}},
		"personality":        {set("linux.personality", map[string]any{"domain": "LINUX32"}), nil},
		"without layout":     {set("linux.personality", map[string]any{"domain": "LINUX", "flags": []any{"ADDR_NO_RANDOMIZE"}}), []string{"setting:linux.personality"}},
		"scheduler":          {set("process.scheduler", map[string]any{"policy": "SCHED_FIFO", "priority": 99}), []string{"setting:process.scheduler"}},
		"interface":          {set("linux.netDevices", map[string]any{"eth0": map[string]any{}}), []string{"setting:linux.netDevices"}},
		"traffic class":      {set("linux.resources.network", map[string]any{"classID": 7}), []string{"setting:linux.resources.network"}},
		"cgroup's memory":    {set("linux.resources.unified", map[string]any{"memory.high": "1"}), nil},
		"cgroup's freezer":   {set("linux.resources.unified", map[string]any{"cgroup.freeze": "1"}), []string{"setting:linux.resources.unified"}},
		"of tomorrow":        {set("linux.tomorrow", map[string]any{"power": true}), []string{"unknown:linux.tomorrow"}},
		"a user's name":      {set("linux.My Secret!", true), []string{"unknown:other"}},
	} {
		x := newTree(t)
		c := config(t, "docker")
		test.change(c)
		if diff := cmp.Diff(test.want, x.classes(c, dockerID, "docker")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What engines make by default has no class, but for containerd's client, which gives no
// seccomp filter by itself.
func TestClassesOfDefaults(t *testing.T) {
	want := map[string][]string{
		"cri": {"unconfined:seccomp"}, "ctr": {"unconfined:seccomp"}, "docker": nil, "podman": nil, "podman-pod": nil,
	}
	x := newTree(t)
	for _, name := range launchtest.Names(t) {
		runtime, _, _ := strings.Cut(name, "-")
		if runtime == "cri" || runtime == "ctr" {
			runtime = "containerd"
		}
		got := x.classes(config(t, name), dockerID, runtime)
		if name == "docker-privileged" {
			for _, class := range []string{"privileged", "device:*", "capability:CAP_SYS_ADMIN", "unconfined:seccomp", "unconfined:paths"} {
				if !slices.Contains(got, class) {
					t.Errorf("%s lacks %s: %v", name, class, got)
				}
			}
		} else if diff := cmp.Diff(want[name], got); diff != "" {
			t.Errorf("%s: %s", name, diff)
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
func TestNoClasses(t *testing.T) {
	if classes := (Facts{}).InCgroup("", nil).Classes(); len(classes) > 0 {
		t.Error(classes)
	}
	verdict, err := Host{}.Judge(t.Context(), Container{}, Init{PID: -1, PIDFD: -1})
	if len(verdict.Classes) > 0 || err != nil {
		t.Errorf("%v, %v", verdict, err)
	}
}

// public is the form of a class: its words are fixed, or the kernel's.
var public = regexp.MustCompile(`^[a-z-]+(:[A-Za-z0-9_.*\[\]{}/:-]{1,200})?$`)

// Any config.json has classes, and none shows what a user chose.
func FuzzClasses(f *testing.F) {
	for _, name := range launchtest.Names(f) {
		f.Add(encode(f, config(f, name)))
	}
	f.Add([]byte(`{"process":{},"linux":{"namespaces":[{"type":"pid","path":"x"}],"sysctl":{"A b":"c"}},"mounts":[{"type":"bind","options":["x y"]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := launch.Parse(raw, "")
		if err != nil {
			return
		}
		l, err := launch.Normalise(c, "", launch.Rules{}, launch.Known{})
		if err != nil {
			return
		}
		Host{Root: t.TempDir()}.Namespaces(c)
		classes := Of(c, l, "", "/bundle").Classes()
		if !slices.IsSorted(classes) {
			t.Error("not sorted", classes)
		}
		for _, class := range classes {
			if !public.MatchString(class) {
				t.Errorf("%q", class)
			}
		}
	})
}

// The manual has each class.
func TestManualNamesEachClass(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "man", "cima-evidence.7.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{classPrivileged, classUnconfined, classCapability, classDevice, classNamespace, classJoined,
		classCgroupParent, classNoCgroup, classAnnotation, classConfined, classHook, classSysctl, classSetting, classUnknown, classMountOption,
		classPropagation, classMount, classRead, classWrite, classSpecial, classCovered, classDataSocket, classDataUnseen, classDescriptor,
		classDirectory, NoMetadata, UnseenStart} {
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
		if got := x.classes(c, id(1), "podman"); power == "" && len(got) > 0 || power != "" && !slices.Equal(got, []string{power}) {
			t.Errorf("%s: %v, not %q", name, got, power)
		}
	}
}
