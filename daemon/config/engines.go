package config

import (
	"path"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
)

// DefaultExecRoot is where a dockerd with a containerd of its own keeps its records.
const DefaultExecRoot = "/run/docker"

// Engines says where engines are.
type Engines struct {
	Docker string `toml:"docker"` // API socket; empty: never asked
	Podman string `toml:"podman"`

	// DockerExecRoot is dockerd's --exec-root: the records of a dockerd
	// that runs a containerd of its own are below it.
	DockerExecRoot string `toml:"docker_exec_root"`
}

// maxSocket is the length of a Unix socket's path (unix(7)).
const maxSocket = 107

func (c Engines) check(say sayer) {
	for _, socket := range []struct{ key, path string }{{"docker", c.Docker}, {"podman", c.Podman}} {
		at := tables.Path("engines", socket.key)
		scheme, rest, has := strings.Cut(socket.path, "://")
		switch {
		case socket.path == "":
		case has && scheme == "unix":
			say(at, "engines.%s = %q: must be the path alone, %q", socket.key, socket.path, rest)
		case has:
			say(at, "engines.%s = %q: must be the path of a Unix socket: cimad asks nothing by the network", socket.key, socket.path)
		case !clean(socket.path) || len(socket.path) > maxSocket:
			say(at, "engines.%s = %q: must be an absolute path of at most %d bytes without . or .., or empty", socket.key, tables.Clip(socket.path), maxSocket)
		}
	}
	if !clean(c.DockerExecRoot) {
		say(tables.Path("engines", "docker_exec_root"), "engines.docker_exec_root = %q: must be an absolute path without . or ..", tables.Clip(c.DockerExecRoot))
	}
}

// clean reports whether a path is absolute and has one spelling.
func clean(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && !strings.ContainsRune(p, 0)
}
