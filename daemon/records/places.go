package records

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/launch"
)

// Options say where to look. The zero value looks where the engines of a
// usual Linux put things.
type Options struct {
	Places []Place      // of bundles; DefaultPlaces
	Rules  launch.Rules // how a launch is normalised

	// HostRoot is where the daemon sees the root of the host's mount namespace, as
	// /proc/1/root: root file systems, and what containers mount of the host, are
	// searched below it. "" where the daemon is in the host's mount namespace.
	HostRoot string

	// SocketDir is where the daemon's socket for containers lies; "": /run/cima.
	SocketDir string

	// Data are directories that hold data alone by the administrator's word, and DataRead
	// those that containers may read.
	Data, DataRead []string

	Hashing *hashing.Turns // in which files are hashed; nil: turns of the store's own

	// Users returns the users that may run a rootless engine, with their homes;
	// by default those that have a /run/user/UID.
	Users func() map[uint32]string
}

// Place is where a runtime's bundles lie. The patterns are absolute paths in which a
// whole component may be {id} or {namespace} (of containerd). Where bundles belong to
// users, a component may be {uid}, and the first one may be {home}.
type Place struct {
	Runtime string   // "docker", "podman", "containerd", "cri-o"
	Config  string   // of config.json
	States  []string // of what the runtime noted: runc's state.json, crun's status
	PIDs    []string // of a file with the first process's id, where no file of States is there
}

// DefaultPlaces returns those of docker (with its own containerd or the system's),
// containerd, podman and cri-o.
func DefaultPlaces() []Place {
	const task = "/run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}/"
	const stored = "/storage/overlay-containers/{id}/userdata/"
	podNotes := []string{"/run/runc/{id}/state.json", "/run/crun/{id}/status"}
	return []Place{
		DockerPlace("/run/docker"),
		{"containerd", task + "config.json", states("/run/docker"), []string{task + "init.pid"}},
		{"podman", "/run/containers" + stored + "config.json", podNotes, nil},
		{"podman", "/var/lib/containers" + stored + "config.json", podNotes, nil},
		{"podman", "{home}/.local/share/containers" + stored + "config.json",
			[]string{"/run/user/{uid}/crun/{id}/status", "/run/user/{uid}/runc/{id}/state.json"}, nil},
	}
}

// DockerPlace returns the place of a docker with a containerd of its own, by its exec-root.
func DockerPlace(execRoot string) Place {
	task := execRoot + "/containerd/daemon/io.containerd.runtime.v2.task/{namespace}/{id}/"
	return Place{"docker", task + "config.json", states(execRoot), []string{task + "init.pid"}}
}

// states returns where runtimes note a container of docker's, by its exec-root, or of
// containerd's: a client of docker's containerd (ctr) has containerd's directories. The
// shim, and docker since version 25, name the directory after runc, whatever runtime they
// run (moby, defaultV2ShimConfig).
func states(execRoot string) (files []string) {
	for _, dir := range []string{execRoot + "/runtime-runc", execRoot + "/runtime-crun", "/run/containerd/runc", "/run/containerd/crun"} {
		files = append(files, dir+"/{namespace}/{id}/state.json", dir+"/{namespace}/{id}/status")
	}
	return files
}

func (o Options) withDefaults() Options {
	if o.Places == nil {
		o.Places = DefaultPlaces()
	}
	if o.SocketDir == "" {
		o.SocketDir = "/run/cima"
	}
	if o.Users == nil {
		o.Users = users
	}
	if o.Hashing == nil {
		o.Hashing = hashing.New()
	}
	return o
}

// users returns the users that have a directory in /run/user, which logind makes,
// and their homes.
func users() map[uint32]string {
	out := map[uint32]string{}
	names, _ := listDir("/run/user")
	for _, name := range names {
		uid, err := strconv.ParseUint(name, 10, 32)
		if err != nil || uid == 0 {
			continue
		}
		if u, err := user.LookupId(name); err == nil && path.IsAbs(u.HomeDir) {
			out[uint32(uid)] = path.Clean(u.HomeDir)
		}
	}
	return out
}

// isUser reports whether the host has a user with a uid, by passwd(5) or because logind
// knows of one.
func isUser(uid uint32) bool {
	number := strconv.FormatUint(uint64(uid), 10)
	_, err := user.LookupId(number)
	return err == nil || exists("/run/user/"+number)
}

// location is one bundle.
type location struct {
	place         *Place
	namespace, id string
	uid           uint32 // that must own it
	home          string
}

func (p *Place) ofUsers() bool { return strings.Contains(p.Config, "{home}") }

// fill writes a location's parts into a pattern. It runs for each caller that
// connects, so it uses no replacer.
func (at location) fill(pattern string) string {
	b := make([]byte, 0, len(pattern)+len(at.namespace)+len(at.id)+len(at.home))
	for {
		before, rest, found := strings.Cut(pattern, "{")
		b = append(b, before...)
		if !found {
			return string(b)
		}
		var name string
		name, pattern, _ = strings.Cut(rest, "}")
		switch name {
		case "namespace":
			b = append(b, at.namespace...)
		case "id":
			b = append(b, at.id...)
		case "uid":
			b = strconv.AppendUint(b, uint64(at.uid), 10)
		case "home":
			b = append(b, at.home...)
		}
	}
}

func (at location) config() string { return at.fill(at.place.Config) }

// runtime follows from containerd's namespace: docker's is moby.
func (at location) runtime() string {
	switch {
	case at.namespace == "":
		return at.place.Runtime
	case at.namespace == "moby":
		return "docker"
	}
	return "containerd"
}

// name is the container's name in the log. Docker, podman and cri-o make ids of 64 random
// digits, so an id is a name. Other users of containerd choose ids, so the namespace
// stands before theirs. Neither has a colon in it.
func (at location) name() string {
	if at.ofEngine() {
		return at.id
	}
	return at.namespace + ":" + at.id
}

// ofEngine reports whether an engine chooses the id, at random.
func (at location) ofEngine() bool { return at.namespace == "" || at.namespace == "moby" }

// dir is the directory of the place, without slashes: "run.containerd".
func (p *Place) dir() string {
	above, _, _ := strings.Cut(p.Config, "/{")
	above = strings.TrimSuffix(above, "/io.containerd.runtime.v2.task")
	return strings.ReplaceAll(strings.Trim(above, "/"), "/", ".")
}

// maxEntries bounds how many containers a directory may hold.
const maxEntries = 16384

// listDir returns the names in a directory, and none where there is no directory.
func listDir(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s holds more than %d containers", dir, maxEntries)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, ignoreMissing(err)
	}
	slices.Sort(names)
	return names, nil
}
