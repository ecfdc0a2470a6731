package predict

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// Ids of the container that is predicted, and of its pod. Launches hold no ids.
const (
	containerID = "6a2f1c9e4b7d4f0e8c35d19a7e60b2f4d8c1a3957b6e4f20a9d3c5e7f1b28406"
	sandboxID   = "b7e03d5a9c1f4826a4d7e8f90b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192" // of its pod
	podID       = "5c0f9e7a-3b1d-4e86-9a27-f0d4c8b15e63"
)

// builder makes the configuration that an engine would write, without what it adds by
// itself: launches show only what is beyond that.
type builder struct {
	c       *Container
	image   Image
	host    Host
	unknown []Unknown
	home    string // of the user, by the image's passwd
}

type object = map[string]any

// doubt notes a fact that the host alone knows, and what is assumed instead.
func (b *builder) doubt(fact, why, assumed string) {
	b.unknown = append(b.unknown, Unknown{fact, why, assumed})
}

// habits are what the engines do differently.
type habits struct {
	storage, root string // directory of the engine's storage; root file system below it
	cgroup        string // the cgroup's path, without the id
	mounts        []object
	bind          []string // options of a bind,
	volume        []string // of a volume, and
	tmpfs         []string // of a tmpfs that are there by default
	after         []string // options of a tmpfs behind those that are asked for
}

var engines = map[Engine]habits{
	Docker: {
		storage: "/var/lib/docker", root: "overlay2", cgroup: "/docker/", mounts: dockerMounts(),
		bind: []string{"rprivate"}, tmpfs: []string{"noexec", "nosuid", "nodev"}, after: []string{"rprivate"},
	},
	Podman: {
		storage: "/var/lib/containers/storage", root: "overlay", cgroup: "/libpod_parent/libpod-", mounts: podmanMounts(),
		bind: []string{"rprivate"}, volume: []string{"rprivate", "nosuid", "nodev"}, tmpfs: []string{"rprivate", "nosuid", "nodev", "rw", "tmpcopyup"},
	},
	Kubelet: {
		storage: "/var/lib/kubelet", root: "rootfs", cgroup: "/kubepods/", mounts: kubeletMounts(),
		bind: []string{"rprivate"},
	},
}

// config is the whole configuration.
func (b *builder) config() (object, error) {
	c, e := b.c, engines[b.c.Engine]
	b.unknown = append(b.unknown, c.Unknown...)
	user, err := b.user()
	if err != nil {
		return nil, err
	}
	args, err := b.arguments()
	if err != nil {
		return nil, err
	}
	mounts, err := b.mounts()
	if err != nil {
		return nil, err
	}
	capabilities, err := b.capabilities(user["uid"] != uint32(0))
	if err != nil {
		return nil, err
	}
	devices, rules, err := b.devices()
	if err != nil {
		return nil, err
	}
	process := object{
		"user": user, "args": args, "env": b.environment(), "cwd": b.directory(), "terminal": c.Terminal,
		"capabilities": capabilities, "noNewPrivileges": c.Security.NoNewPrivileges,
	}
	b.modules(process)
	linux := object{
		"namespaces": b.namespaces(), "cgroupsPath": e.cgroup + containerID,
		"devices": devices, "resources": b.resources(rules), "sysctl": b.sysctls(),
	}
	b.paths(linux)
	b.rest(linux)
	return object{
		"ociVersion": "1.2.0", "process": process, "mounts": mounts, "linux": linux, "annotations": b.annotations(),
		"root":     object{"path": path.Join(e.storage, e.root, containerID, "merged"), "readonly": c.ReadOnly},
		"hostname": b.hostname(),
	}, nil
}

func (b *builder) resources(rules []object) object {
	out := object{"devices": rules}
	if len(b.c.Unified) > 0 {
		out["unified"] = b.c.Unified
	}
	return out
}

// rest is what few lines ask for.
func (b *builder) rest(linux object) {
	if !b.c.Security.SeccompUnconfined && !b.c.Privileged {
		linux["seccomp"] = object{"defaultAction": "SCMP_ACT_ERRNO"} // some profile: which one is no matter of the line's
	}
	if b.c.Personality != "" {
		linux["personality"] = object{"domain": b.c.Personality}
	}
	for name, list := range map[string][]idRange{"uidMappings": b.c.uidMap, "gidMappings": b.c.gidMap} {
		var out []object
		for _, m := range list {
			out = append(out, object{"containerID": m.container, "hostID": m.host, "size": m.size})
		}
		if out != nil {
			linux[name] = out
		}
	}
	if p := b.propagation(); p != "" {
		linux["rootfsPropagation"] = p
	}
}

// arguments are the entrypoint and the command, after an init of the engine's.
func (b *builder) arguments() ([]string, error) {
	c, image := b.c, b.image.Config
	var entrypoint []string
	command := c.Command
	switch {
	case c.Entrypoint != nil:
		entrypoint = *c.Entrypoint
		if len(entrypoint) == 0 && len(command) == 0 {
			command = texts(image.Command)
		}
	default:
		entrypoint = texts(image.Entrypoint)
		if len(command) == 0 {
			command = texts(image.Command)
		}
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, fmt.Errorf("neither the line nor the image has a command")
	}
	if c.Engine == Podman && !c.noSystemd && (isSystemd(args) || isSystemd(command)) {
		b.doubt("asked.mounts", "the program is systemd for podman, and what podman mounts then is by the host's version of cgroups (--systemd=false)", "")
	}
	if c.Init {
		args = append([]string{inits[c.Engine].at, "--"}, args...)
	}
	return args, nil
}

// isSystemd reports whether podman takes a command for systemd, behind a shell, too.
func isSystemd(command []string) bool {
	if len(command) > 2 && command[0] == "/bin/sh" && command[1] == "-c" {
		command = command[2:]
	}
	return len(command) > 0 && (path.Base(command[0]) == "systemd" || slices.Contains([]string{"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"}, command[0]))
}

// inits are the programs of --init: where the container has them, and the host.
var inits = map[Engine]struct{ at, from string }{
	Docker: {"/sbin/docker-init", "/usr/bin/docker-init"},
	Podman: {"/run/podman-init", "/usr/libexec/podman/catatonit"},
}

func texts(list []launch.Text) (out []string) {
	for _, t := range list {
		out = append(out, string(t))
	}
	return out
}

// environment is the image's and what the line sets, as the engines write it: the last
// of a name counts.
func (b *builder) environment() (out []string) {
	if b.c.Engine == Kubelet {
		// The daemon doesn't know the image's configuration there, and counts what
		// containerd adds.
		out = append(out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		if b.c.Terminal {
			out = append(out, "TERM=xterm")
		}
	}
	for _, e := range b.image.Config.Environment {
		name, _, _ := strings.Cut(string(e), "=")
		if !b.c.UnsetAll && !slices.Contains(b.c.Unset, name) {
			out = append(out, string(e))
		}
	}
	for _, v := range b.c.Environment {
		out = append(out, v.Name+"="+v.Value)
	}
	return out
}

func (b *builder) directory() string {
	dir := b.c.WorkingDirectory
	if dir == "" {
		dir = string(b.image.Config.WorkingDirectory)
	}
	switch {
	case dir == "":
		return "/"
	case b.c.Engine == Docker:
		return path.Clean(dir)
	}
	return dir
}

// hostname is what the line asks for. The name that engines make of the id is left to
// them.
func (b *builder) hostname() string {
	if b.c.Hostname == "" {
		return containerID[:12]
	}
	return b.c.Hostname
}

func (b *builder) sysctls() map[string]string {
	out := make(map[string]string)
	for name, value := range b.c.Sysctls {
		out[name] = value
	}
	if b.c.Domainname != "" { // the specification's own member came later
		out["kernel.domainname"] = b.c.Domainname
	}
	return out
}

func (b *builder) annotations() map[string]string {
	out := make(map[string]string)
	for name, value := range b.c.Annotations {
		out[name] = value
	}
	switch b.c.Engine {
	case Podman:
		out["io.container.manager"] = "libpod"
	case Kubelet:
		out["io.kubernetes.cri.container-type"] = "container"
		out["io.kubernetes.cri.sandbox-id"] = sandboxID
		out["io.kubernetes.cri.sandbox-uid"] = podID
	}
	return out
}

// namespaces are the container's own, but for those that the line names.
func (b *builder) namespaces() (out []object) {
	own := map[string]bool{"mount": true, "network": true, "uts": true, "pid": true, "ipc": true, "user": len(b.c.uidMap)+len(b.c.gidMap) > 0}
	for _, kind := range []string{"mount", "network", "uts", "pid", "ipc", "user", "cgroup"} {
		switch mode := b.c.Namespaces[kind]; {
		case mode == "host":
		case strings.HasPrefix(mode, "container:"), strings.HasPrefix(mode, "ns:"):
			out = append(out, object{"type": kind, "path": "/proc/4194303/ns/" + kind})
		case own[kind]:
			out = append(out, object{"type": kind})
		}
	}
	return out
}
