package gate

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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
	g, err := open(o, func(h *Held) who { return who{device: h.Device()} })
	if err != nil {
		return nil, err
	}
	r := &Roots{gate: g, hostRoot: o.HostRoot, measurer: measurer{
		maxSize: maxSize, verity: verityOf, leases: make(chan struct{}, maxLeases), known: make(map[fileID]measured), layers: make(map[uint64]mounted),
	}}
	return r, g.run()
}

// Untold says that somebody went on, or was refused, of whom Missed isn't told
// to the end yet.
func (r *Roots) Untold() bool { return r.gate.untold.Load() > 0 }

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
	r.measurer.adopt(st.Dev, mounted{l, dir, make(chan struct{}, shareOfLeases)})
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
	f, err := os.Open(process + "/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	want := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	found := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /root /mount/point … (proc_pid_mountinfo(5))
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[2] != want {
			continue
		}
		if found++; fields[3] != "/" || unescape(fields[4]) != dir {
			return "", fmt.Errorf("%w: the root file system is mounted at another place too", ErrUnmarkable)
		}
		options = fields[len(fields)-1]
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("mountinfo: %w", err)
	}
	if found != 1 {
		return "", fmt.Errorf("%w: the root file system is mounted %d times", ErrUnmarkable, found)
	}
	return options, nil
}

// unescape undoes what the kernel does to space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Device is the device of the file that a held process is about to execute, 0
// where it isn't known.
func (h *Held) Device() uint64 { return h.id.dev }

// Path is the file's, as it was first seen from the root of its mount.
func (h *Held) Path() string {
	h.naming.Do(func() { h.path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.FD)) })
	return h.path
}
