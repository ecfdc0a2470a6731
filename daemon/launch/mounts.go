package launch

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// mounts normalises the mounts of a container. They are sorted by destination, so a
// mount that a later one covers is marked.
func mounts(c *Spec, id string) []Mount {
	e := newEngineFiles(c, id)
	out := make([]Mount, len(c.Mounts))
	later := map[string]bool{}
	for i := len(c.Mounts) - 1; i >= 0; i-- {
		m := c.Mounts[i]
		out[i] = Mount{Destination: m.Destination, Type: m.Type, Options: MountOptions(m.Options)}
		if IsBind(m) {
			out[i].Type = "bind"
			e.source(m, &out[i])
		}
		destination := path.Clean("/" + string(m.Destination))
		out[i].Hidden = later["/"]
		for end := len(destination); end > 0; end = strings.LastIndexByte(destination[:end], '/') {
			out[i].Hidden = out[i].Hidden || later[destination[:end]]
		}
		later[destination] = true
	}
	slices.SortStableFunc(out, func(a, b Mount) int { return strings.Compare(string(a.Destination), string(b.Destination)) })
	return out
}

// IsBind reports whether a mount is a bind. As in runc, the options decide; the type is
// a hint.
func IsBind(m SpecMount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// opposites are pairs of options, of which the later one holds.
var opposites = map[string]string{
	"rw": "ro", "rrw": "rro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "norelro": "relro",
	"async": "sync", "noatime": "atime", "nodiratime": "diratime", "norelatime": "relatime",
	"nostrictatime": "strictatime", "nomand": "mand",
}

// MountOptions returns the options that hold, sorted: without those that a later one
// undoes, and with SELinux labels cut to their type.
func MountOptions(options []Text) []Text {
	about := func(o Text) string {
		name, _, _ := strings.Cut(string(o), "=")
		if other, ok := opposites[name]; ok {
			return other
		}
		return name
	}
	last := map[string]Text{}
	for _, o := range options {
		name, value, hasValue := strings.Cut(string(o), "=")
		if hasValue && strings.HasSuffix(name, "context") {
			o = Text(name + "=" + selinuxType(strings.Trim(value, `"`)))
		}
		last[about(o)] = o
	}
	out := make([]Text, 0, len(last))
	for _, o := range last {
		out = append(out, o)
	}
	slices.Sort(out)
	return out
}

// engineFiles separates what an engine made for a container from what was asked for.
// The engine made what lies below its own storage, and what has a name that nobody
// could know before the container was made.
type engineFiles struct {
	id, sandbox, pod string
	storage          string // root of the engine's storage, empty where unknown
}

func newEngineFiles(c *Spec, id string) engineFiles {
	return engineFiles{id: id, sandbox: c.Sandbox(), pod: c.Pod().UID, storage: StorageRoot(c.Root.Path)}
}

var (
	userdata  = regexp.MustCompile(`/overlay-containers/[0-9a-f]{64}/userdata/`)
	dockerDir = regexp.MustCompile(`/containers/[0-9a-f]{64}/`)
	podVolume = regexp.MustCompile(`/volumes/([^/]+)/([^/]+)`)

	// podFiles are files that a container may share with the container whose
	// network or pod it joins. Their sources then have the other container's id.
	podFiles = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/run/.containerenv"}
)

// source fills in what is mounted by a bind.
func (e engineFiles) source(m SpecMount, out *Mount) {
	source := path.Clean(string(m.Source))
	parts := strings.Split(source, "/")
	switch {
	case IsID(e.id) && slices.Contains(parts, e.id), IsID(e.sandbox) && slices.Contains(parts, e.sandbox):
		out.Engine = true
	case slices.Contains(podFiles, path.Clean(string(m.Destination))) && e.stored(source) &&
		(userdata.MatchString(source) || dockerDir.MatchString(source)):
		out.Engine = true
	case e.pod != "" && slices.Contains(parts, e.pod):
		out.Engine = true
		if v := podVolume.FindStringSubmatch(source); v != nil {
			name := v[2]
			if strings.HasPrefix(name, "kube-api-access-") {
				name = "kube-api-access" // the rest is random
			}
			out.Volume = Text(v[1] + "/" + name)
		}
	case e.storage != "" && strings.HasPrefix(source, e.storage+"/volumes/") && strings.HasSuffix(source, "/_data"):
		name := strings.TrimSuffix(strings.TrimPrefix(source, e.storage+"/volumes/"), "/_data")
		if IsID(name) {
			out.Anonymous = true
		} else {
			out.Volume = Text(name)
		}
	default:
		out.Source = m.Source
	}
}

// OfEngine reports whether the source of a mount is a file or a volume of the
// engine's own, as the launch of the container with this id shows it.
func (c *Spec) OfEngine(m SpecMount, id string) bool {
	var made Mount
	newEngineFiles(c, id).source(m, &made)
	return made.Source == ""
}

// stored reports whether a path lies where this engine stores its state. Podman has
// some of it under /run.
func (e engineFiles) stored(source string) bool {
	return e.storage != "" && strings.HasPrefix(source, e.storage+"/") || strings.HasPrefix(source, "/run/containers/storage/")
}

// StorageRoot finds the engine's storage from a container's root file system:
// /var/lib/docker/overlay2/…/merged, /var/lib/containers/storage/overlay/…/merged.
func StorageRoot(rootPath string) string {
	for _, driver := range []string{"overlay2", "overlay", "fuse-overlayfs", "vfs", "btrfs", "zfs", "rootfs"} {
		if root, _, ok := strings.Cut(rootPath, "/"+driver+"/"); ok && root != "" {
			return root
		}
	}
	return ""
}
