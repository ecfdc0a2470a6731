package predict

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxMounts bounds the mounts of a container, as launches do.
const maxMounts = 4096

func mount(at, kind, source, options string) object {
	return object{"destination": at, "type": kind, "source": source, "options": strings.Fields(options)}
}

// dockerMounts are those that docker adds, without its own files.
func dockerMounts() []object {
	return []object{
		mount("/proc", "proc", "proc", "nosuid noexec nodev"),
		mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
		mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
		mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
		mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro nosuid noexec nodev"),
		mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
		mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=67108864"),
	}
}

func podmanMounts() []object {
	return []object{
		mount("/proc", "proc", "proc", "nosuid noexec nodev"),
		mount("/dev", "tmpfs", "tmpfs", "nosuid noexec strictatime mode=755 size=65536k"),
		mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
		mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
		mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
		mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=67108864"), // a bind of its own shm is the same
		mount("/sys/fs/cgroup", "cgroup", "cgroup", "rprivate nosuid noexec nodev relatime ro"),
	}
}

// kubeletMounts are those of containerd's CRI plugin.
func kubeletMounts() []object {
	return []object{
		mount("/proc", "proc", "proc", "nosuid noexec nodev"),
		mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
		mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
		mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
		mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
		mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
	}
}

// mounts are the engine's and those that are asked for, which cover them, in the order
// in which the runtime mounts them.
func (b *builder) mounts() ([]object, error) {
	asked, err := b.askedMounts()
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool)
	for _, m := range asked {
		at := path.Clean(m["destination"].(string))
		if taken[at] {
			return nil, fmt.Errorf("two mounts at %s", at)
		}
		taken[at] = true
	}
	if len(asked) > maxMounts {
		return nil, fmt.Errorf("%d mounts: at most %d are allowed", len(asked), maxMounts)
	}
	var out []object
	for _, m := range engines[b.c.Engine].mounts {
		at := m["destination"].(string)
		if taken[at] || taken["/dev"] && strings.HasPrefix(at, "/dev/") || at == "/dev/shm" && b.c.Namespaces["ipc"] == "none" {
			continue
		}
		out = append(out, b.adjusted(m))
	}
	depth := func(m object) int { return strings.Count(path.Clean(m["destination"].(string)), "/") }
	slices.SortStableFunc(asked, func(x, y object) int { return depth(x) - depth(y) })
	return append(out, asked...), nil
}

// adjusted is a mount of the engine's as the line has it changed.
func (b *builder) adjusted(m object) object {
	at, options := m["destination"].(string), m["options"].([]string)
	switch {
	case b.c.Privileged && (at == "/sys" || at == "/sys/fs/cgroup"):
		options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "ro" })
	case at == "/proc" && len(b.c.Security.procOptions) > 0:
		options = b.c.Security.procOptions
	case at == "/dev/shm" && b.c.Namespaces["ipc"] == "host":
		return object{"destination": at, "type": "bind", "source": at, "options": b.shared()}
	}
	return object{"destination": at, "type": m["type"], "source": m["source"], "options": options}
}

// shared are the options of the host's /dev/shm in a container.
func (b *builder) shared() []string {
	if b.c.Engine == Podman {
		return strings.Fields("bind rprivate nosuid noexec nodev")
	}
	return strings.Fields("rbind rprivate")
}

// askedMounts are those of the line and of the image.
func (b *builder) askedMounts() (out []object, err error) {
	all := slices.Concat(b.c.Mounts, b.imageVolumes())
	if i := inits[b.c.Engine]; b.c.Init {
		b.doubt("asked.mounts "+i.at, "the engine finds its init along the PATH of its own", "it is "+i.from)
		options := "bind ro"
		if b.c.Engine == Podman {
			options = "bind rprivate ro"
		}
		out = append(out, mount(i.at, "bind", i.from, options))
	}
	if b.c.ReadOnly && b.c.ReadOnlyTmpfs {
		for _, at := range []string{"/run", "/tmp", "/var/tmp"} {
			if !slices.ContainsFunc(all, func(m Mount) bool { return path.Clean(m.Destination) == at }) {
				all = append(all, Mount{Kind: "tmpfs", Destination: at})
			}
		}
	}
	for i, m := range all {
		if !path.IsAbs(m.Destination) || strings.ContainsRune(m.Destination, 0) {
			return nil, fmt.Errorf("a mount's place in the container must be an absolute path, not %q", m.Destination)
		}
		made, err := b.mount(m, i)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

// imageVolumes are the anonymous volumes that the image wants where the line mounts
// nothing.
func (b *builder) imageVolumes() (out []Mount) {
	for _, at := range b.image.Config.Volumes {
		covered := slices.ContainsFunc(b.c.Mounts, func(m Mount) bool { return path.Clean(m.Destination) == path.Clean(at) })
		if b.c.Engine == Kubelet && !covered {
			b.doubt("asked.mounts "+at, "containerd gives the image's volume a directory with a random name (mount a volume there)", "")
		}
		if b.c.ImageVolumes == "ignore" || b.c.Engine == Kubelet || covered {
			continue
		}
		m := Mount{Kind: "volume", Destination: at}
		if b.c.ImageVolumes == "tmpfs" {
			m.Kind = "tmpfs"
		}
		if b.c.Engine == Podman {
			m.Options = []string{"exec"}
		}
		out = append(out, m)
	}
	return out
}

// mount is one as the engine writes it.
func (b *builder) mount(m Mount, n int) (object, error) {
	e := engines[b.c.Engine]
	kind, source := m.Kind, m.Source
	var options []string
	switch m.Kind {
	case "bind":
		if !path.IsAbs(source) {
			return nil, fmt.Errorf("what is mounted at %s must be an absolute path of the host's, not %q", m.Destination, source)
		}
		options = bindOptions(e.bind, m.Options)
		source = path.Clean(source)
	case "pod":
		kind, source = "bind", path.Join(e.storage, "pods", podID, source)
		options = bindOptions(e.bind, m.Options)
	case "volume":
		kind, source = "bind", path.Join(e.storage, "volumes", m.Source, "_data")
		if m.Source == "" {
			source = path.Join(e.storage, "volumes", anonymous(n), "_data")
		}
		options = bindOptions(e.volume, m.Options)
	case "tmpfs":
		source = "tmpfs"
		options = slices.Concat(e.tmpfs, m.Options, e.after)
		if slices.Contains(options, "notmpcopyup") {
			options = slices.DeleteFunc(options, func(o string) bool { return o == "notmpcopyup" || o == "tmpcopyup" })
		}
	case "devpts":
		source, options = "devpts", slices.Clone(m.Options)
	default:
		return nil, fmt.Errorf("mount at %s: unknown type %q", m.Destination, m.Kind)
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	at := m.Destination
	if b.c.Engine == Docker {
		at = path.Clean(at)
	}
	return object{"destination": at, "type": kind, "source": source, "options": options}, nil
}

// propagations are the options that say how mounts pass on.
var propagations = strings.Fields("private rprivate shared rshared slave rslave unbindable runbindable")

// bindOptions adds to the options of a bind those that it has by default.
func bindOptions(byDefault, options []string) []string {
	var out []string
	if !slices.Contains(options, "bind") {
		out = append(out, "rbind")
	}
	for _, o := range byDefault {
		if slices.Contains(propagations, o) && slices.ContainsFunc(options, func(o string) bool { return slices.Contains(propagations, o) }) {
			continue
		}
		out = append(out, o)
	}
	return append(out, options...)
}

// propagation is that of the root file system: engines widen it for mounts that need
// it.
func (b *builder) propagation() string {
	found := ""
	for _, m := range b.c.Mounts {
		for _, o := range m.Options {
			switch {
			case (o == "shared" || o == "rshared") && b.c.Engine == Kubelet:
				return "rshared"
			case o == "shared" || o == "rshared":
				return "shared"
			case o != "slave" && o != "rslave":
			case b.c.Engine != Docker:
				found = "rslave"
			default:
				found = "slave"
			}
		}
	}
	return found
}

// anonymous is the name of a volume without one: 64 hex digits, as engines make them.
func anonymous(n int) string { return fmt.Sprintf("a%063x", n) }

func isAnonymous(volume string) bool {
	return len(volume) == 64 && strings.HasPrefix(volume, "a000")
}
