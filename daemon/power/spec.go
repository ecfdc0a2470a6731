package power

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// specClasses returns the classes that the specification alone shows.
func specClasses(c *launch.Spec, l launch.Launch) []string {
	out := slices.Concat(
		capabilityClasses(l.Defaults.Capabilities), confinementClasses(c, l), seccompClasses(c), annotationClasses(l),
		deviceClasses(l), sysctlClasses(c), optionClasses(c), memberClasses(l),
	)
	if l.Asked.AllDevices && slices.Contains(out, classCapability+"CAP_SYS_ADMIN") {
		out = append(out, classPrivileged)
	}
	whose := c.Namespaces()
	for kind := range namespaceFiles {
		if whose[kind] == launch.NamespaceHost || l.Asked.Namespaces[kind] == launch.NamespaceHost {
			out = append(out, classNamespace+kind)
		}
	}
	for _, h := range l.Asked.Hooks {
		out = append(out, classHook+h.Stage)
	}
	return distinct(out)
}

func capabilityClasses(c launch.Capabilities) []string {
	var out []string
	usual := launch.DockerCapabilities()
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient) {
		switch {
		case slices.Contains(usual, name):
		case slices.Contains(capabilityNames, name):
			out = append(out, classCapability+name)
		default:
			out = append(out, classCapability+unknownElse)
		}
	}
	return out
}

// confinementClasses reports what was switched off, or replaced by a profile that no
// engine gives. Whether the host has AppArmor or SELinux is not in a bundle: where it
// has neither, nothing is reported.
func confinementClasses(c *launch.Spec, l launch.Launch) []string {
	var out []string
	switch a := l.Asked.AppArmor; a {
	case "":
	case "unconfined":
		out = append(out, classUnconfined+"apparmor")
	default:
		out = append(out, classConfined+"apparmor")
	}
	switch s := l.Asked.SELinux; {
	case s == "spc_t", strings.HasPrefix(s, "unconfined"), c.Annotation("io.podman.annotations.label") == "disable":
		out = append(out, classUnconfined+"selinux")
	case s != "", l.Asked.Members["linux.mountLabel"] != nil:
		out = append(out, classConfined+"selinux")
	}
	elsewhere := func(m launch.SpecMount) bool {
		return m.Type == "proc" && path.Clean("/"+string(m.Destination)) != "/proc" && !slices.Contains(launch.MountOptions(m.Options), "ro")
	}
	if len(l.Asked.Unmasked) > 0 || len(l.Asked.WritablePaths) > 0 || slices.ContainsFunc(c.Mounts, elsewhere) {
		out = append(out, classUnconfined+"paths")
	}
	return out
}

// harmless are annotations on which runtimes act and that give no power: what
// engines write by themselves, and what concerns the container alone.
var harmless = []string{
	"run.oci.keep_original_groups", "run.oci.mount_context_type", "run.oci.seccomp_fail_unknown_syscall", "run.oci.timens_offset",
	"org.systemd.property.After", "org.systemd.property.Before", "org.systemd.property.CollectMode",
	"org.systemd.property.DefaultDependencies", "org.systemd.property.Description", "org.systemd.property.KillSignal",
	"org.systemd.property.TimeoutStopUSec",
}

const ownSeccomp = "run.oci.seccomp_bpf_data" // replaces the specification's filter

// annotationClasses names the prefix alone: users may put anything into the name of an
// annotation.
func annotationClasses(l launch.Launch) []string {
	var out []string
	for name := range l.Asked.Annotations {
		prefix, ok := launch.ActedOn(name)
		switch {
		case !ok, slices.Contains(harmless, name):
		case name == ownSeccomp:
			out = append(out, classUnconfined+"seccomp")
		default:
			out = append(out, classAnnotation+prefix+"*")
		}
	}
	return out
}

func deviceClasses(l launch.Launch) []string {
	if l.Asked.AllDevices {
		return []string{classDevice + "*"}
	}
	var out []string
	add := func(kind string, major, minor *launch.Integer) {
		number := func(n *launch.Integer) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(int64(*n))
		}
		out = append(out, classDevice+kind+":"+number(major)+":"+number(minor))
	}
	for _, d := range l.Asked.Devices {
		if !launch.UsualDevice(d) && (d.Type == "c" || d.Type == "u" || d.Type == "b") {
			add(strings.Replace(d.Type, "u", "c", 1), &d.Major, &d.Minor)
		}
	}
	for _, r := range l.Asked.DeviceRules {
		usual := r.Major != nil && r.Minor != nil && launch.UsualDevice(launch.Device{Type: r.Type, Major: *r.Major, Minor: *r.Minor})
		if kind := r.Type; r.Allow && r.Access != "m" && !usual { // to make a node is not to open it
			if kind != "a" && kind != "b" && kind != "c" {
				kind = unknownElse
			}
			add(kind, r.Major, r.Minor)
		}
	}
	return out
}

// ownSysctls are those that belong to a namespace, by its kind.
var ownSysctls = map[string]*regexp.Regexp{
	"network": regexp.MustCompile(`^net\.`),
	"ipc":     regexp.MustCompile(`^(kernel\.(msg|sem|shm)[a-z_]*|fs\.mqueue\.[a-z_]+)$`),
	"uts":     regexp.MustCompile(`^kernel\.(hostname|domainname)$`),
}

// publicSysctl is the part of a name that no user chooses: names of interfaces follow.
var publicSysctl = regexp.MustCompile(`^(abi|debug|dev|fs|kernel|net|user|vm)\.[a-z0-9_]{1,32}`)

func sysctlClasses(c *launch.Spec) []string {
	var out []string
	whose := c.Namespaces()
	for name := range c.Linux.Sysctl {
		name = strings.ReplaceAll(name, "/", ".") // as runtimes read it
		own := false
		for kind, names := range ownSysctls {
			own = own || whose[kind] == launch.NamespaceOwn && names.MatchString(name)
		}
		if public := publicSysctl.FindString(name); !own && public != "" {
			out = append(out, classSysctl+public)
		} else if !own {
			out = append(out, classSysctl+unknownElse)
		}
	}
	return out
}

// harmlessOptions take rights away, bound sizes, or say what holds anyway.
var harmlessOptions = regexp.MustCompile(`^(defaults|r?bind|r?private|r?slave|r?ro|r?rw|r?nosuid|r?suid|r?nodev|r?dev|r?noexec|r?exec|r?(no|rel|strict)?atime|r?(no)?diratime|norelatime|nostrictatime|a?sync|no(symfollow|swap)|tmpcopyup|notmpcopyup|newinstance|nocopy|hidepid=[0-9a-z]+|subset=pid|mode=[0-7]+|ptmxmode=[0-7]+|[ug]id=[0-9]+|size=[0-9]+[kmgKMG%]?|nr_(inodes|blocks)=[0-9]+[kmgKMG]?|(fs|def|root)?context=(container_file_t|container_share_t))$`)

func optionClasses(c *launch.Spec) []string {
	var out []string
	for _, m := range c.Mounts {
		for _, o := range launch.MountOptions(m.Options) {
			switch {
			case o == "shared", o == "rshared":
				out = append(out, classPropagation)
			case !harmlessOptions.MatchString(string(o)):
				out = append(out, classMountOption)
			}
		}
	}
	return out
}

// memberPath is a member's path that no user chose.
var memberPath = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,31}(\[\]|\{\})?(\.[A-Za-z][A-Za-z0-9]{0,31}(\[\]|\{\})?){0,5}$`)

// settings are members that give power unless their value is harmless.
var settings = map[string]func(value []byte) bool{
	"linux.netDevices":        nil, // an interface of the host's
	"linux.resources.network": nil,
	"linux.resources.unified": func(value []byte) bool { return harmlessKeys(value) },
	"linux.personality":       func(value []byte) bool { return harmlessPersonality(value) },
	"linux.rootfsPropagation": func(value []byte) bool {
		return slices.Contains([]string{`"private"`, `"rprivate"`, `"slave"`, `"rslave"`}, string(value))
	},
	"process.scheduler": nil,
}

// memberClasses are those of members that the specification's table keeps as they are,
// and of members that no table names.
func memberClasses(l launch.Launch) []string {
	var out []string
	for name, value := range l.Asked.Members {
		setting, ok := settings[name]
		if ok && (setting == nil || !setting(value)) {
			out = append(out, classSetting+name)
		}
	}
	for name := range l.Asked.Unknown {
		if !memberPath.MatchString(name) {
			name = unknownElse
		}
		out = append(out, classUnknown+name)
	}
	return out
}

// harmlessKeys reports whether keys of cgroup v2 only bound quantities.
func harmlessKeys(value []byte) bool {
	var keys map[string]string
	if json.Unmarshal(value, &keys) != nil {
		return false
	}
	for key := range keys {
		controller, _, _ := strings.Cut(key, ".")
		if !slices.Contains([]string{"memory", "cpu", "cpuset", "io", "pids", "hugetlb", "rdma", "misc"}, controller) {
			return false
		}
	}
	return true
}

func harmlessPersonality(value []byte) bool {
	var p struct {
		Domain string   `json:"domain"`
		Flags  []string `json:"flags"`
	}
	return json.Unmarshal(value, &p) == nil && (p.Domain == "LINUX" || p.Domain == "LINUX32") && len(p.Flags) == 0
}
