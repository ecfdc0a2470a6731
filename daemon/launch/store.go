package launch

import (
	"context"
	"errors"
	"sync"
)

// Options say where to look. The zero value looks where the engines of a
// usual Linux put things.
type Options struct {
	Places  []Place  // of bundles; DefaultPlaces
	Engines []Engine // to ask for images; DefaultEngines
	Storage []string // roots of containers/storage: podman, cri-o; DefaultStorage
	Rules   Rules    // how a launch is normalised
}

// Place is where a runtime's bundles lie. The patterns are absolute paths in
// which a whole component may be {id} or {namespace} (of containerd), and,
// where bundles belong to users, begin with {home}.
type Place struct {
	Runtime string // "docker", "podman", "containerd", "cri-o"
	Config  string // pattern of config.json
	States  []string
	PIDs    []string // files that hold the first process's id, if no state file tells
}

// Engine is an engine's API: HTTP on a Unix socket.
type Engine struct {
	Runtime string // "docker" or "podman"
	Socket  string
}

// Rules say what policy leaves open of a launch.
type Rules struct {
	Environment string   // EnvironmentNames (also if empty), EnvironmentDigest, EnvironmentNone
	Labels      []string // names of labels and annotations that count
}

// How the environment is shown.
const (
	EnvironmentNames  = "names"
	EnvironmentDigest = "digest"
	EnvironmentNone   = "none"
)

// Why there is no image yet, or none at all.
var (
	ErrNotReady = errors.New("the engine can't tell the image yet")
	ErrNoEngine = errors.New("no engine can tell the image")
)

// Store reads records. It may be used from many goroutines.
type Store struct {
	options Options
	mu      sync.Mutex
}

// New makes a Store.
func New(o Options) *Store { return &Store{options: o} }

// Declared returns the record that declares exactly this cgroup path. Records
// of users count only below their own user@UID.service. An error means that a
// record could not be read or that two contradict each other.
func (s *Store) Declared(ctx context.Context, cgroupPath string) (Record, bool, error) {
	panic("next commit")
}

// List returns all records there are now, those of stopped containers too
// where the engine keeps them (podman). A bundle that vanishes meanwhile is
// passed over; one that can't be read has Err set.
func (s *Store) List(ctx context.Context) ([]Record, error) { panic("next commit") }

// Measure returns the record's launch with the digests of its entrypoint and
// hooks.
func (s *Store) Measure(ctx context.Context, r Record) Launch { panic("next commit") }

// Image asks what is known of the container's image: ErrNotReady, ErrNoEngine.
func (s *Store) Image(ctx context.Context, r Record) (Image, error) { panic("next commit") }
