package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Roots holds whoever executes a file of a container's root file system, in
// whatever mount namespace. Nobody is held elsewhere.
type Roots struct {
	gate     *gate
	hostRoot string
	measurer measurer
}

// ErrUnmarkable says why a root file system can't be watched: a mark there
// would hold others than the container, or what is hashed might not be what
// runs.
var ErrUnmarkable = errors.New("executions can't be measured there")

// HoldRoots begins with no root file system. MaxSize bounds the bytes of a
// file that Measure reads.
func HoldRoots(maxSize int64, o Options) (*Roots, error) {
	// Not by user: a container's root can be any.
	g, err := open(o, func(h *HeldExec) payer { return payer{device: h.Device()} })
	if err != nil {
		return nil, err
	}
	r := &Roots{gate: g, hostRoot: o.HostRoot, measurer: measurer{
		maxSize: maxSize, verity: verityOf, leases: make(chan struct{}, maxLeases), cache: make(map[fileID]cachedDigest), layers: make(map[uint64]overlayMount),
	}}
	return r, g.run()
}

// Unreported says that somebody went on, or was refused, of whom Missed isn't told
// to the end yet.
func (r *Roots) Unreported() bool { return r.gate.unreported.Load() > 0 }

// Close lets everybody go.
func (r *Roots) Close() { r.gate.close() }

// Add holds who executes files below the root file system at dir, which must
// be an overlay whose device no other mount here has: a container can choose
// what its processes take for their root, but not what the bundle says. It
// returns the device that the file system's files have (stat(2), st_dev). The
// mark goes with the mount.
func (r *Roots) Add(dir string) (device uint64, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Open(r.hostRoot+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st)); err != nil {
		return 0, fmt.Errorf("stat %s: %w", dir, err)
	}
	if fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return 0, fmt.Errorf("%w: the root file system is no overlay (type %#x)", ErrUnmarkable, fs.Type)
	}
	options, err := r.onlyMount(st.Dev, dir)
	if err != nil {
		return 0, err
	}
	l, err := parseLayers(options, dir)
	if err != nil {
		return 0, err
	}
	r.measurer.setLayers(st.Dev, overlayMount{l, dir, make(chan struct{}, maxLeasesOn)})
	return st.Dev, r.gate.mark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM)
}

// onlyMount makes sure that a device is mounted at one place and no other.
// The host's mountinfo is not a container's to write. It returns the options of
// the file system.
func (r *Roots) onlyMount(device uint64, dir string) (options string, err error) {
	process := "/proc/self"
	if r.hostRoot != "" {
		process = filepath.Dir(r.hostRoot)
	}
	all, err := procfs.Mounts(process)
	if err != nil {
		return "", err
	}
	found := 0
	for _, m := range all {
		if m.Device != device {
			continue
		}
		if found++; m.Root != "/" || m.Point != dir {
			return "", fmt.Errorf("%w: the root file system is mounted at another place too", ErrUnmarkable)
		}
		options = m.Options
	}
	if found != 1 {
		return "", fmt.Errorf("%w: the root file system is mounted %d times", ErrUnmarkable, found)
	}
	return options, nil
}

// Device is the device of the file that a held process is about to execute, 0
// where it isn't known.
func (h *HeldExec) Device() uint64 { return h.id.dev }

// Path is the file's, as it was first seen from the root of its mount.
func (h *HeldExec) Path() string {
	h.pathOnce.Do(func() { h.path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.fd)) })
	return h.path
}
