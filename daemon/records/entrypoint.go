package records

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
)

// maxExecutable is the largest file whose digest is taken.
const maxExecutable = 256 << 20

// defaultPath is what runtimes search where the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// errCovered says that a mount lies over a path: the container does not see what the
// root file system has there.
var errCovered = errors.New("covered by a mount")

// FromBundle returns the launch of the bundle in a directory, with the digests of its
// files, whichever user owns them. cimactl predict needs it.
func FromBundle(ctx context.Context, dir string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	f, err := os.Open(path.Join(dir, "config.json"))
	if err != nil {
		return launch.Launch{}, err
	}
	defer f.Close()
	c, err := launch.Read(f)
	if err != nil {
		return launch.Launch{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	r := Record{Bundle: dir, RootPath: c.Root.Path, details: details{search: searchPath(c)}}
	if r.RootPath != "" && !path.IsAbs(r.RootPath) {
		r.RootPath = path.Join(dir, r.RootPath)
	}
	if r.Launch, err = launch.Normalise(c, c.ID(), rules, known); err != nil {
		return launch.Launch{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return measure(ctx, r, power.Host{})
}

// measure adds the digests of entrypoint and hooks. A file that can't be read has
// none; the only error is that ctx ended.
func measure(ctx context.Context, r Record, host power.Host) (launch.Launch, error) {
	l := r.Launch
	l.Entrypoint = entrypoint(ctx, r, host.Root)
	if l.Asked != nil && len(l.Asked.Hooks) > 0 {
		asked := *l.Asked
		asked.Hooks = slices.Clone(asked.Hooks)
		for i := range asked.Hooks {
			if fd, err := host.Open(string(asked.Hooks[i].Path)); err == nil {
				asked.Hooks[i].SHA384, _ = digestFile(ctx, fd)
				unix.Close(fd)
			}
		}
		l.Asked = &asked
	}
	if err := ctx.Err(); err != nil {
		return launch.Launch{}, fmt.Errorf("measuring the files of container %s: %w", r.ID, err)
	}
	return l, nil
}

// searchPath returns the container's PATH.
func searchPath(c *launch.Spec) string {
	for _, e := range slices.Backward(c.Process.Env) {
		if v, ok := strings.CutPrefix(string(e), "PATH="); ok {
			return v
		}
	}
	return defaultPath
}

// entrypoint finds the first argument as the runtime does: in the container's root
// file system, and along the container's PATH if it is a bare name.
func entrypoint(ctx context.Context, r Record, hostRoot string) *launch.Entrypoint {
	asked := r.Launch.Asked
	if asked == nil || len(asked.Arguments) == 0 || asked.Arguments[0] == "" || r.RootPath == "" {
		return nil
	}
	root, err := openRoot(hostRoot+r.RootPath, r.Launch.Defaults.Mounts) // all of them
	if err != nil {
		return nil
	}
	defer root.close()
	name := string(asked.Arguments[0])
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join("/", string(asked.WorkingDirectory), name)
		}
		return root.entrypoint(ctx, name)
	}
	for dir := range strings.SplitSeq(r.details.search, ":") {
		if !path.IsAbs(dir) {
			continue // runtimes refuse a file that they find by a relative PATH
		}
		e := root.entrypoint(ctx, path.Join(dir, name))
		if e != nil && e.SHA384 == "" && root.covers(string(e.Path)) {
			return nil // the file may be there, or further along PATH
		}
		if e != nil {
			return e
		}
	}
	return nil
}

// rootfs is a container's root file system as the host sees it.
type rootfs struct {
	fd      int
	mounts  map[string]bool // destinations, symlinks resolved
	unknown bool            // one of them may go anywhere
}

// emptyWhenMounted are file systems in which nobody has put a symlink when they are
// mounted.
var emptyWhenMounted = []string{"tmpfs", "ramfs", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}

func openRoot(dir string, mounts []launch.Mount) (*rootfs, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	root := &rootfs{fd: fd}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || procfs.Remote(int64(fs.Type)) {
		root.close()
		return nil, errors.New("the root file system must be a local one")
	}
	resolved, holding := map[string]bool{}, map[string]bool{}
	for _, m := range mounts {
		at, _ := root.resolve(string(m.Destination))
		resolved[at] = true
		holding[at] = holding[at] || !slices.Contains(emptyWhenMounted, m.Type)
	}
	root.mounts = resolved
	// A destination within another mount follows the symlinks that lie there.
	for at := range resolved {
		for end := strings.LastIndexByte(at, '/'); end > 0; end = strings.LastIndexByte(at[:end], '/') {
			root.unknown = root.unknown || holding[at[:end]]
		}
	}
	return root, nil
}

func (root *rootfs) close() { unix.Close(root.fd) }

// entrypoint describes one candidate. It is nil where there is no executable file.
func (root *rootfs) entrypoint(ctx context.Context, name string) *launch.Entrypoint {
	at, err := root.resolve(name)
	if errors.Is(err, errCovered) {
		return &launch.Entrypoint{Path: launch.Text(name)}
	}
	if err != nil {
		return nil
	}
	fd, st, err := root.stat(at)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return nil
	}
	e := &launch.Entrypoint{Path: launch.Text(name)}
	e.SHA384, _ = digestFile(ctx, fd)
	return e
}

// covers reports whether a mount hides what the root file system has at a path.
func (root *rootfs) covers(name string) bool {
	_, err := root.resolve(name)
	return errors.Is(err, errCovered)
}

// resolve follows the symlinks of a path within the root file system, and stops with
// errCovered where a mount lies over it. The path that it returns has no symlinks. With
// an error, the components behind the one that failed are as given.
func (root *rootfs) resolve(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		next := path.Join(at, part)
		if part == ".." {
			at = next
			continue
		}
		if root.mounts[next] || root.unknown {
			return next, errCovered
		}
		fd, st, err := root.stat(next)
		if err != nil {
			return path.Join(append([]string{next}, rest...)...), err
		}
		target := ""
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err = procfs.Readlink(fd)
		}
		unix.Close(fd)
		switch {
		case err != nil:
			return next, err
		case st.Mode&unix.S_IFMT != unix.S_IFLNK:
			at = next
			continue
		case links == 40:
			return next, unix.ELOOP
		}
		links++
		rest = append(strings.Split(target, "/"), rest...)
		if path.IsAbs(target) {
			at = "/"
		}
	}
	return at, nil
}

// stat opens a path that has no symlinks, and never leaves the mount of the root.
func (root *rootfs) stat(name string) (int, *unix.Stat_t, error) {
	fd, err := procfs.OpenBelow(root.fd, name)
	if err != nil {
		return -1, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, &st, nil
}

// digestFile returns SHA-384, in hex, of the regular file behind an O_PATH descriptor.
// Only a regular file is opened for reading: opening a device could have effects.
func digestFile(ctx context.Context, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxExecutable {
		return "", fmt.Errorf("must be a regular file of at most %d bytes", maxExecutable)
	}
	// O_NONBLOCK: opening must not wait where the container holds a lease.
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha512.New384()
	var n int64
	for err == nil && n <= maxExecutable {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		var part int64
		part, err = io.CopyN(hash, f, 1<<20)
		n += part
	}
	if !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("could not be read, or grew above %d bytes", maxExecutable)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
