package records

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/logs"
)

// Power returns, sorted, the classes by which a container could act as root of the guest,
// as far as its specification and its cgroup's path show them. A rootless engine's
// container runs with its user's rights and has none.
func (s *Store) Power(_ context.Context, r Record) ([]string, error) {
	if r.Err != nil || r.Launch.Source == logs.SourceNone || r.Launch.Source == "" {
		return []string{power.NoMetadata}, nil
	}
	classes := r.details.power.Classes()
	if r.UID == 0 && r.details.mapped != 0 && mayActAs(s, r.details.mapped) {
		classes = append(slices.Clone(classes), power.ReplaceableBundle)
		slices.Sort(classes)
	}
	return classes, nil
}

// mayActAs reports whether a user of the host may act as a uid: whose subordinate uid or
// whose own it is.
func mayActAs(s *Store, uid uint32) bool {
	_, has := s.subordinate.Owner(uid)
	return has || s.isUser(uid)
}

// Judge returns what the kernel shows of a container's first process, at START: classes
// that Power may not know, and mounts that lead elsewhere than their source says. A
// rootless engine's container has its user's rights and no class.
//
// An error says that ctx ended, that the process ended, or that it can't be read.
func (s *Store) Judge(ctx context.Context, r Record, init power.Init) (power.Verdict, error) {
	c := power.Container{
		Facts: r.details.power, Root: r.RootPath, Cgroup: r.CgroupPath,
		SocketDir: s.options.SocketDir, Data: s.options.Data, DataRead: s.options.DataRead,
		UnknownRuntime: r.StateDir == "",
		Others:         func(ctx context.Context) ([]power.Other, error) { return s.others(ctx, r) },
	}
	if r.UID == 0 && r.Err == nil {
		c.Files, c.Volumes, c.Own = s.engineFiles(r, ownFiles), volumes(s.options.Places, r), podDirectories(r)
		c.OwnRoot, c.AnyRoot = s.ownRoot(ctx, r), r.Runtime == "docker"
		c.Storages, c.Logs = s.storages(), logDirectories(s.options.Places, r)
	}
	return s.host().Judge(ctx, c, init)
}

// ownRoot reports whether a root file system lies where the container's engine keeps
// those that it makes, and is no other container's. Who uses podman may choose one, and
// docker's users may not.
func (s *Store) ownRoot(ctx context.Context, r Record) bool {
	if r.RootPath == "" || path.Clean(r.RootPath) != r.RootPath || s.sharesRoot(r) {
		return false
	}
	switch r.Runtime {
	case "docker":
		return launch.StorageRoot(r.RootPath) != ""
	case "podman", "cri-o":
		is, err := s.storage.Find(ctx, r.Bundle, r.ID, 0) // --rootfs may name another container's
		for i := range s.options.Places {
			p := &s.options.Places[i]
			storage, _, ok := strings.Cut(p.Config, "/overlay-containers/")
			if ok && err == nil && launch.IsID(is.Layer) && !p.ofUsers() && r.RootPath == path.Join(storage, "overlay", is.Layer, "merged") {
				return true
			}
		}
		return false
	}
	return r.RootPath == path.Join(r.Bundle, "rootfs")
}

// sharesRoot reports whether another record has this root file system.
func (s *Store) sharesRoot(r Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file, known := range s.records {
		if file != r.config() && known.record.RootPath == r.RootPath {
			return true
		}
	}
	return false
}

// ownFiles are the files that an engine makes for a container and mounts into it, by
// their exact names in the container's own directory.
var ownFiles = map[string][]string{
	"docker": {"hosts", "hostname", "resolv.conf", "mounts/shm"},
	"podman": {"hosts", "hostname", "resolv.conf", ".containerenv", "shm", "run/secrets", "run/notify", "passwd", "group", "localtime"},
}

// sharedFiles are those that a container gets of the one whose network it has.
var sharedFiles = map[string][]string{
	"docker": {"hosts", "hostname", "resolv.conf"},
	"podman": {"hosts", "hostname", "resolv.conf", ".containerenv"},
}

// sharedMemory is what a container gets of the one whose IPC namespace it has.
var sharedMemory = map[string][]string{"docker": {"mounts/shm"}, "podman": {"shm"}}

// engineFiles returns the paths of those files of a container.
func (s *Store) engineFiles(r Record, names map[string][]string) (files []string) {
	runtime := r.Runtime
	if runtime == "cri-o" {
		runtime = "podman"
	}
	for _, dir := range directories(s.options.Places, r) {
		for _, name := range names[runtime] {
			files = append(files, path.Join(dir, name))
		}
		files = append(files, r.details.power.SourcesIn(path.Join(dir, "secrets"))...)
	}
	if sandbox := r.details.sandbox; r.Runtime == "containerd" && launch.IsID(sandbox) {
		for _, top := range []string{"/var/lib", "/run"} {
			for _, name := range []string{"hosts", "hostname", "resolv.conf", "shm"} {
				files = append(files, path.Join(top, "containerd/io.containerd.grpc.v1.cri/sandboxes", sandbox, name))
			}
		}
	}
	return files
}

// directories are the container's own in its engine's storage.
func directories(places []Place, r Record) (dirs []string) {
	if !launch.IsID(r.ID) {
		return nil // the user chose the name
	}
	switch r.Runtime {
	case "docker":
		if root := launch.StorageRoot(r.RootPath); root != "" {
			dirs = append(dirs, path.Join(root, "containers", r.ID))
		}
	case "podman", "cri-o":
		for i := range places {
			if p := &places[i]; p.Runtime == "podman" && !p.ofUsers() {
				dirs = append(dirs, path.Dir(location{place: p, id: r.ID}.config()))
			}
		}
	}
	return dirs
}

// logDirectories are those in which the container's engine keeps what the container
// prints: its own, and those of pods.
func logDirectories(places []Place, r Record) []string {
	dirs := directories(places, r)
	if r.Runtime == "cri-o" || r.Runtime == "containerd" && r.details.sandbox != "" {
		dirs = append(dirs, "/var/log/pods", "/var/log/crio/pods")
	}
	return dirs
}

// volumes are the directories in which the container's engine keeps volumes. Podman's
// follow from where its bundles lie: the user of podman may choose a root file system.
func volumes(places []Place, r Record) (dirs []string) {
	switch r.Runtime {
	case "docker":
		if root := launch.StorageRoot(r.RootPath); root != "" {
			dirs = append(dirs, root+"/volumes")
		}
	case "podman":
		for i := range places {
			p := &places[i]
			if storage, _, ok := strings.Cut(p.Config, "/overlay-containers/"); ok && p.Runtime == "podman" && !p.ofUsers() {
				dirs = append(dirs, storage+"/volumes")
			}
		}
	}
	return dirs
}

const kubeletPods = "/var/lib/kubelet/pods"

// podDirectories are those in which a kubelet keeps what it made for the container's pod.
func podDirectories(r Record) []string {
	uid := r.Pod.UID
	if uid == "" || strings.Contains(uid, "/") || strings.HasPrefix(uid, ".") {
		return nil
	}
	var dirs []string
	for _, name := range []string{"etc-hosts", "containers", "volumes", "volume-subpaths"} {
		dirs = append(dirs, path.Join(kubeletPods, uid, name))
	}
	return dirs
}

// storages are the directories in which the engines of all containers store, as far as
// their root file systems show it.
func (s *Store) storages() (dirs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.records {
		if root := launch.StorageRoot(known.record.RootPath); root != "" && !slices.Contains(dirs, root) {
			dirs = append(dirs, root)
		}
	}
	return dirs
}

// sandboxOf is the id of the first container of the pod that the bundle names. Whoever
// uses podman may name any.
func sandboxOf(c *launch.Spec) string {
	return c.Annotation("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")
}

var podCgroup = regexp.MustCompile(`[0-9a-f]{64}`)

// isOfPod reports whether two containers are of one pod. Podman's first container names no
// pod, and its cgroup lies in the pod's, which has the pod's id.
func isOfPod(r, first Record) bool {
	mine, theirs := r.details.sandbox, first.details.sandbox
	if mine == "" || r.Runtime != first.Runtime {
		return false
	}
	if r.Runtime != "podman" {
		return r.Runtime != "docker" && (mine == theirs || mine == first.ID)
	}
	parent := path.Dir(r.CgroupPath)
	return mine == first.ID && theirs == "" && parent == path.Dir(first.CgroupPath) && podCgroup.MatchString(path.Base(parent))
}

// others lists the first processes of the other containers of root's.
func (s *Store) others(ctx context.Context, r Record) ([]power.Other, error) {
	all, err := s.List(ctx)
	var out []power.Other
	for _, o := range all {
		if o.Name == r.Name || o.UID != 0 || o.InitPID == 0 {
			continue
		}
		out = append(out, power.Other{
			PID: o.InitPID, Files: s.engineFiles(o, sharedFiles), Shm: s.engineFiles(o, sharedMemory),
			Pod:     isOfPod(r, o),
			Network: o.Runtime == "docker" && o.Name == r.details.network || r.Runtime == "podman" && mountsHostsOf(s.options.Places, r, o),
		})
	}
	return out, err
}

// mountsHostsOf reports whether podman mounts another container's /etc/hosts in this one,
// as it does where this one has that one's network by its option.
func mountsHostsOf(places []Place, r, o Record) bool {
	return slices.ContainsFunc(directories(places, o), func(dir string) bool { return r.details.power.Mounts(path.Join(dir, "hosts"), "/etc/hosts") })
}
