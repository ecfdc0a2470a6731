package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/launch/launchtest"
)

// bothOf are the launch digest and the defaults' digest.
func bothOf(t testing.TB, l Launch) [2][48]byte {
	t.Helper()
	d, err := DefaultsDigest(l)
	if err != nil {
		t.Fatal(err)
	}
	return [2][48]byte{digestOf(t, l, Image{}), d}
}

// Everything that a relying party may care about changes the digest.
func TestChangesThatCount(t *testing.T) {
	seen := map[[2][48]byte]string{bothOf(t, launchOf(t, config(t, "docker"))): "nothing"}
	for name, do := range map[string]change{
		"command":            set("process.args", []any{"/bin/sleep", "1001"}),
		"order of arguments": set("process.args", []any{"1000", "/bin/sleep"}),
		"variable":           add("process.env", "A=b"),
		"working directory":  set("process.cwd", "/tmp"),
		"terminal":           set("process.terminal", true),
		"uid":                set("process.user.uid", 1234),
		"gid":                set("process.user.gid", 5),
		"group":              add("process.user.additionalGids", 77),
		"umask":              set("process.user.umask", 18),
		"capability":         add("process.capabilities.bounding", "CAP_NET_ADMIN"),
		"ambient capability": set("process.capabilities.ambient", []any{"CAP_CHOWN"}),
		"no new privileges":  set("process.noNewPrivileges", true),
		"no seccomp":         drop("linux.seccomp"),
		"seccomp":            set("linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
		"apparmor":           set("process.apparmorProfile", "docker-default"),
		"selinux":            set("process.selinuxLabel", "system_u:system_r:spc_t:s0:c1,c2"),
		"pid=host":           without("linux.namespaces", "type", "pid"),
		"joined namespace":   add("linux.namespaces", map[string]any{"type": "network", "path": "/proc/99/ns/net"}),
		"user namespace":     add("linux.namespaces", map[string]any{"type": "user"}),
		"bind":               add("mounts", mount("/data", "bind", "/srv/data", "rbind")),
		"bind of another":    add("mounts", mount("/data", "bind", "/srv/evil", "rbind")),
		"bind read-only":     add("mounts", mount("/data", "bind", "/srv/data", "rbind", "ro")),
		"volume":             add("mounts", mount("/data", "bind", "/var/lib/docker/volumes/vol/_data", "rbind")),
		"volume, anonymous":  add("mounts", mount("/data", "bind", "/var/lib/docker/volumes/"+strings.Repeat("ab", 32)+"/_data", "rbind")),
		"like a volume":      add("mounts", mount("/data", "bind", "/evil/volumes/"+strings.Repeat("ab", 32)+"/_data", "rbind")),
		"like docker's file": set("mounts", []any{mount("/etc/hosts", "bind", "/evil/containers/"+strings.Repeat("ab", 32)+"/hosts", "rbind")}),
		"mount underneath":   first("mounts", mount("/proc", "bind", "/srv/data", "rbind")),
		"mount on top":       add("mounts", mount("/proc", "bind", "/srv/data", "rbind")),
		"tmpfs":              add("mounts", mount("/t", "tmpfs", "tmpfs", "size=1m")),
		"tmpfs, larger":      add("mounts", mount("/t", "tmpfs", "tmpfs", "size=2m")),
		"device":             set("linux.devices", []any{map[string]any{"path": "/dev/foo", "type": "c", "major": 1, "minor": 3}}),
		"device rule":        add("linux.resources.devices", map[string]any{"allow": true, "type": "c", "major": 7, "minor": -1, "access": "rmw"}),
		"all devices":        set("linux.resources.devices", []any{map[string]any{"allow": true, "access": "rwm"}}),
		"sysctl":             set("linux.sysctl", map[string]any{"net.ipv4.ip_forward": "1"}),
		"read-only root":     set("root.readonly", true),
		"masked paths":       drop("linux.maskedPaths"),
		"read-only paths":    drop("linux.readonlyPaths"),
		"hook":               set("hooks.poststart", []any{map[string]any{"path": "/usr/bin/hook", "args": []any{"hook"}}}),
		"hook's arguments":   set("hooks.poststart", []any{map[string]any{"path": "/usr/bin/hook", "args": []any{"hook", "x"}}}),
		"hook of /proc":      set("hooks.prestart", []any{map[string]any{"path": "/proc/4406/exe", "args": []any{"other"}}}),
	} {
		c := config(t, "docker")
		do(c)
		d := bothOf(t, launchOf(t, c))
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digests", name, other)
		}
		seen[d] = name
	}
	images := map[[48]byte]string{digestOf(t, launchOf(t, config(t, "docker")), Image{}): "nothing"}
	for name, image := range map[string]Image{
		"digest":   {Digest: "sha256:" + strings.Repeat("0", 64)},
		"manifest": {Manifest: "sha256:" + strings.Repeat("0", 64)},
		"absent":   {Absent: "no engine"},
	} {
		d := digestOf(t, launchOf(t, config(t, "docker")), image)
		if other, ok := images[d]; ok {
			t.Errorf("image's %s and %s have one digest", name, other)
		}
		images[d] = name
	}
}

// An addition of an engine's is not asked for if it is exactly that; anything else is,
// in whatever small way it differs.
func TestDefaultsAreExactPairs(t *testing.T) {
	replace := func(path, key, value string, v any) change {
		return func(c map[string]any) { without(path, key, value)(c); add(path, v)(c) }
	}
	shm := func(options ...any) change {
		return replace("mounts", "destination", "/dev/shm", mount("/dev/shm", "tmpfs", "shm", options...))
	}
	id := strings.Repeat("a1", 32)
	for name, test := range map[string]struct {
		change change
		asked  bool
	}{
		"nothing":                  {func(map[string]any) {}, false},
		"no defaults":              {set("mounts", []any{}), false},
		"no sysctls":               {drop("linux.sysctl"), false},
		"podman's sysctl":          {set("linux.sysctl", map[string]any{"net.ipv4.ping_group_range": "0 0"}), false},
		"another value":            {set("linux.sysctl", map[string]any{"net.ipv4.ping_group_range": "0 1"}), true},
		"proc, looser":             {replace("mounts", "destination", "/proc", mount("/proc", "proc", "proc", "nosuid", "noexec")), true},
		"proc elsewhere":           {replace("mounts", "destination", "/proc", mount("/p", "proc", "proc", "nosuid", "noexec", "nodev")), true},
		"sys, writable":            {replace("mounts", "destination", "/sys", mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev")), true},
		"shm, larger":              {shm("nosuid", "noexec", "nodev", "mode=1777", "size=99999999"), false},
		"shm, no size of bytes":    {shm("nosuid", "noexec", "nodev", "mode=1777", "size=50%"), true},
		"shm, executable":          {shm("nosuid", "nodev", "mode=1777", "size=67108864"), true},
		"shm of the host's":        {replace("mounts", "destination", "/dev/shm", mount("/dev/shm", "bind", "/dev/shm", "rbind", "rprivate")), true},
		"containerd's run":         {add("mounts", mount("/run", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")), false},
		"podman's tmp":             {add("mounts", mount("/tmp", "tmpfs", "tmpfs", "nodev", "nosuid", "rprivate", "rw", "tmpcopyup")), true},
		"mapped":                   {replace("mounts", "destination", "/proc", map[string]any{"destination": "/proc", "type": "proc", "options": []any{"nosuid", "noexec", "nodev"}, "uidMappings": []any{map[string]any{"hostID": 1}}}), true},
		"engine's file, shared":    {replace("mounts", "destination", "/etc/hosts", mount("/etc/hosts", "bind", "/var/lib/docker/containers/"+id+"/hosts", "rbind", "rshared")), true},
		"engine's file, read-only": {replace("mounts", "destination", "/etc/hosts", mount("/etc/hosts", "bind", "/var/lib/docker/containers/"+id+"/hosts", "rbind", "ro")), false},
		"engine's file, covered":   {add("mounts", mount("/etc", "tmpfs", "tmpfs")), true},
		"podman's umask":           {set("process.user.umask", 0o22), false},
		"another umask":            {set("process.user.umask", 0), true},
		"podman's capabilities":    {set("process.capabilities.bounding", []any{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}), false},
		"one of all engines' less": {set("process.capabilities.bounding", []any{"CAP_CHOWN"}), true},
		"inheritable":              {set("process.capabilities.inheritable", []any{"CAP_BPF"}), true},
		"docker's profile":         {set("process.apparmorProfile", "docker-default"), false},
		"podman's profile":         {set("process.apparmorProfile", "containers-default-0.50.1"), false},
		"another profile":          {set("process.apparmorProfile", "docker-default2"), true},
		"engine's label":           {set("process.selinuxLabel", "system_u:system_r:container_t:s0:c1,c2"), false},
		"another label":            {set("process.selinuxLabel", "system_u:system_r:spc_t:s0"), true},
		"engine's label of mounts": {set("linux.mountLabel", "system_u:object_r:container_file_t:s0:c1,c2"), false},
		"another label of mounts":  {set("linux.mountLabel", "system_u:object_r:etc_t:s0"), true},
		"another mask":             {add("linux.maskedPaths", "/proc/interrupts"), false},
		"a mask less":              {set("linux.maskedPaths", []any{"/proc/kcore"}), true},
		"read-only, or masked": {func(c map[string]any) {
			drop("linux.readonlyPaths")(c)
			for _, p := range ReadOnlyPaths() {
				add("linux.maskedPaths", p)(c)
			}
		}, false},
		"the usual rules":            {set("linux.resources.devices", []any{map[string]any{"allow": false, "access": "rwm"}}), false},
		"mknod of all":               {add("linux.resources.devices", map[string]any{"allow": true, "type": "a", "access": "m"}), true},
		"own cgroup namespace":       {add("linux.namespaces", map[string]any{"type": "cgroup"}), false},
		"another's cgroup namespace": {add("linux.namespaces", map[string]any{"type": "cgroup", "path": "/proc/9/ns/cgroup"}), true},
		"own time":                   {add("linux.namespaces", map[string]any{"type": "time"}), true},
		"host name of the id":        {set("hostname", id[:12]), false},
		"another host name":          {set("hostname", id[:11]), true},
		"docker's hook":              {func(map[string]any) {}, false},
		"docker's hook, poststop":    {set("hooks", map[string]any{"poststop": []any{map[string]any{"path": "/proc/1/exe", "args": []any{"libnetwork-setkey", "a", "b", "c"}}}}), true},
		"docker's hook, longer":      {set("hooks", map[string]any{"prestart": []any{map[string]any{"path": "/proc/1/exe", "args": []any{"libnetwork-setkey", "a", "b", "c", "d"}}}}), true},
		"docker's hook, environment": {set("hooks", map[string]any{"prestart": []any{map[string]any{"path": "/proc/1/exe", "args": []any{"libnetwork-setkey", "a", "b", "c"}, "env": []any{"LD_PRELOAD=x"}}}}), true},
	} {
		c := config(t, "docker")
		base := digestOf(t, launchOf(t, c), Image{})
		test.change(c)
		if got := digestOf(t, launchOf(t, c), Image{}) != base; got != test.asked {
			t.Errorf("%s: asked for: %t", name, got)
		}
	}
}

// Equal lines mask the same on machines with more CPUs or fewer.
func TestMasksOfCPUs(t *testing.T) {
	var seen [2][2][48]byte
	for i, cpus := range []int{1, 8} {
		c := config(t, "docker")
		for n := range cpus {
			add("linux.maskedPaths", fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", n))(c)
		}
		seen[i] = bothOf(t, launchOf(t, c))
	}
	if seen[0] != seen[1] || seen[0] == bothOf(t, launchOf(t, config(t, "docker"))) {
		t.Error("the number of CPUs is in a digest, or their masks are in none")
	}
}

// What is taken off as an engine's own is seen in the parts, not in the digests alone.
func TestWhatIsAskedFor(t *testing.T) {
	c := config(t, "docker")
	add("linux.resources.devices", map[string]any{"allow": true, "type": "c", "major": 7, "minor": 7, "access": "wr"})(c)
	add("mounts", mount("/etc", "tmpfs", "tmpfs"))(c)
	l := launchOf(t, c)
	if rules := l.Asked.DeviceRules; len(rules) != 1 || *rules[0].Major != 7 || rules[0].Access != "rw" || len(l.Defaults.DeviceRules) != 9 {
		t.Errorf("%+v, and by default %d", rules, len(l.Defaults.DeviceRules))
	}
	covered := 0
	for _, m := range l.Asked.Mounts {
		if m.Hidden && m.Engine {
			covered++
		}
	}
	if covered != 3 || len(l.Asked.Mounts) != 4 {
		t.Errorf("%d files of the engine's are covered: %+v", covered, l.Asked.Mounts)
	}
	// A pod's name, and its host name, are another one's in each pod.
	c = config(t, "cri")
	set("hostname", "web-0b7c3f51")(c)
	spec, err := Parse(encode(t, c), "containerd")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = Normalise(spec, spec.ID(), Rules{}, Known{}); err != nil || l.Asked.Hostname != "" || l.Defaults.Hostname != "" {
		t.Errorf("a pod's host name: %+v, %v", l.Asked, err)
	}
}

// Of the order of device rules, each change shows.
func TestOrderOfDeviceRules(t *testing.T) {
	seen := map[[2][48]byte]int{}
	fuse := func(allow bool) any {
		return map[string]any{"allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
	}
	for i, rules := range [][]any{{fuse(true), fuse(false)}, {fuse(false), fuse(true)}, {fuse(true)}, {fuse(false)}} {
		c := config(t, "docker")
		set("linux.resources.devices", append([]any{map[string]any{"allow": false, "access": "rwm"}}, rules...))(c)
		d := bothOf(t, launchOf(t, c))
		if other, ok := seen[d]; ok {
			t.Errorf("orders %d and %d have the same digests", other, i)
		}
		seen[d] = i
	}
}

// What differs from run to run, or has no effect, does not change it.
func TestChangesThatDoNotCount(t *testing.T) {
	base := digestOf(t, launchOf(t, config(t, "docker")), Image{})
	for name, do := range map[string]change{
		"no HOSTNAME":        set("process.env", []any{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}),
		"rlimits":            set("process.rlimits", []any{map[string]any{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}}),
		"memory":             set("linux.resources.memory", map[string]any{"limit": 1 << 20}),
		"cgroup parent":      set("linux.cgroupsPath", "/foo/"+strings.Repeat("a1", 32)),
		"usual device rules": set("linux.resources.devices", []any{map[string]any{"allow": false, "access": "rwm"}}),
		"a capability twice": add("process.capabilities.bounding", "CAP_CHOWN"),
		"bind spelt as type": set("mounts", append([]any{}, config(t, "docker")["mounts"].([]any)...)),
		"undone option": func(c map[string]any) {
			m := c["mounts"].([]any)[3].(map[string]any) // /sys, ro
			m["options"] = append([]any{"rw", "exec"}, m["options"].([]any)...)
		},
	} {
		c := config(t, "docker")
		do(c)
		if digestOf(t, launchOf(t, c), Image{}) != base {
			t.Errorf("%s changes the digest", name)
		}
	}
}

func TestRules(t *testing.T) {
	c := config(t, "docker")
	set("annotations", map[string]any{"keep": "yes", "other": "no"})(c)
	l, err := FromConfig(bytes.NewReader(encode(t, c)), Rules{Labels: []string{"keep", "missing"}}, Known{})
	if err != nil || len(l.Asked.Labels) != 1 || l.Asked.Labels["keep"] != "yes" {
		t.Errorf("%+v, %v", l.Asked.Labels, err)
	}
}

// Different large integers must not become equal through JSON's doubles.
func TestSeccompNumbersAreExact(t *testing.T) {
	digest := func(value string) string {
		d, err := seccompDigest([]byte(`{"syscalls":[{"names":["a"],"args":[{"value":` + value + `}]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if digest("9007199254740993") == digest("9007199254740992") || digest("18446744073709551615") == digest("18446744073709551614") {
		t.Error("two values have one digest")
	}
	if digest("8") == digest("131072") {
		t.Error("two values have one digest")
	}
}

func TestHexID(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for name, want := range map[string]string{
		id: id, "docker-" + id + ".scope": id, "libpod-" + id: id, "libpod-payload-" + id: id,
		"x" + id: "", id + "x": "", strings.ToUpper(id): "", id[1:]: "", "": "", "docker-.scope": "",
	} {
		if got := HexID(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// Any config.json gives an error, or a launch that has one digest and survives
// a round trip through JSON.
func FuzzFromConfig(f *testing.F) {
	for _, name := range launchtest.Names(f) {
		f.Add(encode(f, config(f, name)))
	}
	f.Add([]byte(`{"process":{"args":["` + "\xff" + `","\ud800"]},"linux":{"cgroupsPath":":::"}}`))
	f.Add([]byte(`{"process":{},"linux":{"seccomp":{"a":1e999,"b":18446744073709551615}},"mounts":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := FromConfig(bytes.NewReader(raw), Rules{Labels: []string{"x"}}, Known{})
		if err != nil {
			return
		}
		form, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		first, err := Digest(l, Image{})
		if err != nil {
			t.Fatalf("a launch without a digest: %v", err)
		}
		var back Launch
		if err := json.Unmarshal(form, &back); err != nil {
			t.Fatalf("%v: %s", err, form)
		}
		second, err := Digest(back, Image{})
		if err != nil || first != second {
			t.Fatalf("the digest changed on the way through JSON: %s", form)
		}
		if _, err := Parse(raw, ""); err != nil {
			t.Fatal("FromConfig took what Parse refuses")
		}
	})
}
