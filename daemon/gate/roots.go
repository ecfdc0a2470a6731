package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/overlay"
	"github.com/cima-project/cima/daemon/procfs"
)

// Roots holds each process that executes a file of a container's root file system,
// in any mount namespace, and no other process.
type Roots struct {
	gate     *gate
	hostRoot string
	measurer measurer
}

// ErrUnmarkable says that a root file system can't be watched: a mark would hold
// processes of others than the container, or what is hashed might not be what runs.
var ErrUnmarkable = errors.New("executions can't be measured there")

// HoldRoots returns a Roots without a root file system: Add adds them. maxSize is
// the most bytes of a file that Measure hashes.
func HoldRoots(maxSize int64, o Options) (*Roots, error) {
	// Not by user: the processes of a container can have any uid.
	g, err := open(o, rootLimits, nil, func(h *HeldExec) payer { return payer{device: h.Device()} })
	if err != nil {
		return nil, err
	}
	if o.Hashing == nil {
		o.Hashing = hashing.New()
	}
	r := &Roots{gate: g, hostRoot: o.HostRoot, measurer: measurer{
		hashing: o.Hashing,
		maxSize: maxSize, minAge: minAge, verity: overlay.Verity, leases: make(chan struct{}, maxLeases), cache: make(map[overlay.File]cachedDigest), layers: make(map[uint64]overlayMount),
	}}
	return r, g.run()
}

// Unreported reports whether a process went on, or was refused, for which Missed has
// not returned yet, and which may be of the container on a device.
func (r *Roots) Unreported(device uint64) bool { return r.gate.untold.concern(device, 0) }

// WaitReported waits until Missed has returned for all of these that went on until now.
func (r *Roots) WaitReported(ctx context.Context, device uint64) error {
	return r.gate.untold.wait(ctx, device)
}

// Close lets all processes go.
func (r *Roots) Close() { r.gate.close() }

// Add holds the processes that execute files of the root file system at dir. That
// must be an overlay whose device is mounted nowhere else: a container can choose
// the root directory of its processes, but not what its bundle says. Add returns
// the device of the file system's files (stat(2), st_dev). The mark ends with the
// mount.
func (r *Roots) Add(dir string) (device uint64, err error) {
	root, err := openRoot(r.hostRoot, dir)
	if err != nil {
		return 0, err
	}
	defer unix.Close(root.fd)
	l, err := overlay.Parse(root.options, root.dir)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnmarkable, err)
	}
	r.measurer.setLayers(root.device, overlayMount{l, root.dir, make(chan struct{}, maxLeasesOn)})
	return root.device, r.gate.mark(root.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM)
}

// root is a container's root file system that may have a mark.
type root struct {
	fd      int // O_PATH
	dir     string
	device  uint64
	options string
}

// openRoot opens an overlay that is mounted at dir and nowhere else. What is mounted there
// is looked at first: to open what a user serves (fuse-overlayfs) may take for ever.
func openRoot(hostRoot, dir string) (*root, error) {
	if kind, err := typeAt(hostRoot, dir); err != nil || kind != "" && kind != "overlay" {
		return nil, fmt.Errorf("%w: the root file system is no overlay (%s)", ErrUnmarkable, cmp.Or(kind, fmt.Sprint(err)))
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(hostRoot+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	r := &root{fd: fd, dir: dir}
	if err = errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st)); err != nil {
		err = fmt.Errorf("stat %s: %w", dir, err)
	} else if fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		err = fmt.Errorf("%w: the root file system is no overlay (type %#x)", ErrUnmarkable, fs.Type)
	} else {
		r.device = st.Dev
		r.options, err = onlyMount(hostRoot, st.Dev, dir)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}

// hostMounts reads the mounts of the host.
func hostMounts(hostRoot string) ([]procfs.Mount, error) {
	if hostRoot == "" {
		return procfs.Mounts("/proc/self")
	}
	return procfs.Mounts(filepath.Dir(hostRoot))
}

// typeAt returns the type of the file system that is mounted at a path, "" where none is.
func typeAt(hostRoot, dir string) (kind string, err error) {
	all, err := hostMounts(hostRoot)
	for _, m := range all {
		if m.Point == filepath.Clean(dir) {
			kind = m.Type // the last one lies on top
		}
	}
	return kind, err
}

// onlyMount checks that a device is mounted at dir and nowhere else, and returns
// the options of the file system. A container can't change the host's mountinfo.
func onlyMount(hostRoot string, device uint64, dir string) (options string, err error) {
	all, err := hostMounts(hostRoot)
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

// Device returns the device of the file that the process is about to execute, 0 if
// it is not known.
func (h *HeldExec) Device() uint64 { return h.id.Device }

// Path returns the path of the file from the root of its mount, as it was at the
// first call.
func (h *HeldExec) Path() string {
	h.pathOnce.Do(func() { h.path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.fd)) })
	return h.path
}
