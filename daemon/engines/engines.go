// Package engines answers: which image was a container made of, and when did its
// engine start and end it?
//
// Docker and podman are asked by their API for the image that a container was
// made of, and followed for starts and ends. Podman and cri-o keep the image's
// identity in files, which are read first: podman's socket is usually systemd's,
// and connecting to it would start the engine.
//
// An engine is asked only through a socket that root made. What it answers is
// its word about its own containers; nothing here asks a container.
package engines

import (
	"github.com/cima-project/cima/daemon/storage"
)

// Client asks engines about containers. It may be used from many goroutines.
type Client struct {
	options Options
	storage *storage.Reader
}

// Options say where engines are. The zero value looks where those of a usual
// Linux are.
type Options struct {
	Engines []Engine // nil: docker's and podman's usual sockets
	Storage []string // roots of containers/storage: podman, cri-o; nil: on disk and for this boot
}

// Engine is an engine's API: HTTP on a Unix socket.
type Engine struct {
	Runtime string // "docker" or "podman"
	Socket  string
}

var usualEngines = []Engine{{"docker", "/run/docker.sock"}, {"podman", "/run/podman/podman.sock"}}

// New makes a Client. It connects to nothing before it is asked.
func New(o Options) *Client {
	if o.Engines == nil {
		o.Engines = usualEngines
	}
	return &Client{options: o, storage: &storage.Reader{Roots: o.Storage}}
}
