package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fsnotify/fsnotify"

	"github.com/cima-project/cima/daemon/procfs"
)

// Usual returns the paths where OCI runtimes usually are.
func Usual() []string {
	var all []string
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		for _, name := range []string{"runc", "crun", "youki"} {
			all = append(all, filepath.Join(dir, name))
		}
	}
	return all
}

// remarkInterval is the time after which runtimes are looked for though no change
// was reported: their directory may have been created.
const remarkInterval = 5 * time.Second

// Runtimes holds each process that executes one of the runtimes' files.
type Runtimes struct {
	gate    *gate
	paths   []string
	changes *fsnotify.Watcher // in the runtimes' directories
	ended   chan struct{}
	working sync.WaitGroup

	mu     sync.Mutex
	marked map[string]*marked // by path
	firsts map[uint64]bool    // devices of root file systems whose first exec is held
}

// marked is a file with a mark. It stays open, so that the mark can be removed.
type marked struct {
	fd  int // O_PATH
	dev uint64
	ino uint64

	// open is a second descriptor, for reading: while there is one, the kernel gives nobody
	// else a write lease, by which the root of a container that holds a descriptor of the
	// runtime could stop all who execute it (fcntl(2), F_SETLEASE). -1: somebody has one.
	open int
}

// keepOpen opens the file for reading, unless that is done. It doesn't wait for a lease: to
// have tried ends it, after lease-break-time.
func (m *marked) keepOpen() {
	if m.open >= 0 {
		return
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", m.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		m.open = fd
	}
}

func (m *marked) close() {
	unix.Close(m.fd)
	if m.open >= 0 {
		unix.Close(m.open)
	}
}

// HoldRuntimes begins to hold. It follows symbolic links. A path that does not exist
// is marked when it is created, and a file that a package replaces is marked anew,
// some milliseconds later: a runtime that runs in between is not held.
//
// EPERM means that CAP_SYS_ADMIN is missing, ENOSYS or EINVAL that the kernel has
// no such events.
func HoldRuntimes(paths []string, o Options) (*Runtimes, error) {
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("runtime %q: the path must be absolute", p)
		}
	}
	host, err := hostSpaces()
	if err != nil {
		return nil, err
	}
	r := &Runtimes{
		paths:  slices.Compact(slices.Sorted(slices.Values(paths))),
		ended:  make(chan struct{}),
		marked: make(map[string]*marked), firsts: make(map[uint64]bool),
	}
	g, err := open(o, runtimeLimits, func(h *HeldExec) bool {
		return !r.awaits(h.Device()) && host.isNoStart(h)
	}, func(h *HeldExec) payer {
		if r.awaits(h.Device()) {
			return payer{device: h.Device()} // no other container takes its places
		}
		return payer{space: h.mountSpace()}
	})
	if err != nil {
		return nil, err
	}
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		g.discard()
		return nil, fmt.Errorf("watch the runtimes' directories: %w", err)
	}
	r.gate, r.changes = g, changes
	if err := g.run(); err != nil {
		r.changes.Close()
		return nil, err
	}
	if err := r.mark(); err != nil {
		r.Close()
		return nil, err
	}
	r.working.Go(r.followChanges)
	return r, nil
}

// Close lets all processes go.
func (r *Runtimes) Close() {
	close(r.ended)
	r.changes.Close()
	r.gate.close()
	r.working.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.marked {
		m.close()
	}
	clear(r.marked)
}

// Marked returns the paths whose files have a mark now.
func (r *Runtimes) Marked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for p := range r.marked {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// followChanges marks again when a runtime's directory changed, and now and then.
func (r *Runtimes) followChanges() {
	tick := time.NewTicker(remarkInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.ended:
			return
		case <-tick.C:
		case <-r.changes.Errors: // an overflow: something changed
		case e := <-r.changes.Events:
			if e.Op&(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) == 0 {
				continue
			}
		}
		if err := r.mark(); err != nil {
			r.gate.report(nil, err)
		}
	}
}

// mark marks the files that are now at the paths.
func (r *Runtimes) mark() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed []error
	for _, p := range r.paths {
		r.watch(p)
		if err := r.markPath(p); err != nil {
			failed = append(failed, fmt.Errorf("hold %s: %w", p, err))
		}
	}
	return errors.Join(failed...)
}

// watch watches the directory that names the runtime, and the one in which a
// symbolic link ends. A directory that isn't there is tried again later.
func (r *Runtimes) watch(p string) {
	r.changes.Add(filepath.Dir(p))
	if whole, err := filepath.EvalSymlinks(p); err == nil {
		r.changes.Add(filepath.Dir(whole))
	}
}

func (r *Runtimes) markPath(p string) error {
	old := r.marked[p]
	m, err := openMarked(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		r.drop(p)
		return nil
	}
	if err != nil {
		return err
	}
	if old != nil && old.dev == m.dev && old.ino == m.ino {
		m.close()
		old.keepOpen()
		return nil
	}
	if err := r.gate.mark(m.fd, unix.FAN_MARK_ADD); err != nil {
		m.close()
		return err
	}
	m.keepOpen()
	r.drop(p)
	r.marked[p] = m
	return nil
}

// drop removes the mark of the file that was at a path: the mark would keep a
// deleted file on the disk.
func (r *Runtimes) drop(p string) {
	old := r.marked[p]
	if old == nil {
		return
	}
	delete(r.marked, p)
	for _, other := range r.marked {
		if other.dev == old.dev && other.ino == old.ino {
			old.close()
			return
		}
	}
	r.gate.mark(old.fd, unix.FAN_MARK_REMOVE)
	old.close()
}

func openMarked(p string) (*marked, error) {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("must be a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &marked{fd: fd, dev: st.Dev, ino: st.Ino, open: -1}, nil
}

// mark changes the mark of the file of an O_PATH descriptor, or with
// FAN_MARK_FILESYSTEM of its file system.
func (g *gate) mark(fd int, flags uint) error {
	raw, err := g.file.SyscallConn()
	if err != nil {
		return err
	}
	at := fmt.Sprintf("/proc/self/fd/%d", fd)
	marking := raw.Control(func(group uintptr) {
		err = unix.FanotifyMark(int(group), flags, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, at)
	})
	if err != nil {
		return fmt.Errorf("fanotify_mark: %w", err)
	}
	return marking
}

// Names reports whether a held process was started for this bundle: the bundle is
// the working directory of containerd's shims, and the container's id is an argument
// of podman's and CRI-O's conmon. These are facts of the program that executes the
// runtime, because the runtime does not run yet.
func (h *HeldExec) Names(bundle, id string) bool {
	dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", h.PID))
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID))
	if procfs.Alive(h.PIDFD) != nil { // after the reads: they were of this process
		return false
	}
	return dir == bundle || slices.Contains(strings.Split(string(line), "\x00"), id)
}
