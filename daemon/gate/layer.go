package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// errUnlocated says that the layer that holds a file's bytes was not found, so
// nobody can tell who can write it.
var errUnlocated = errors.New("the layer that holds the file was not found")

// layers are the directories that an overlay is made of. An overlay's own inode
// doesn't know of all writers: a shared mapping is one of the file in the upper
// layer, and only a lease there meets it. Files of the lower layers are
// nobody's to write: the first who opens one gets a copy in the upper layer.
type layers struct {
	upper string
	lower []string
}

// parseLayers reads an overlay's options as mountinfo shows them. Engines with
// many layers name them from the driver's directory, two above the mount.
func parseLayers(options, mount string) (layers, error) {
	var l layers
	base := filepath.Dir(filepath.Dir(mount))
	absolute := func(dir string) string {
		if dir = procfs.Unescape(dir); !filepath.IsAbs(dir) {
			dir = filepath.Join(base, dir)
		}
		return dir
	}
	for option := range strings.SplitSeq(options, ",") {
		if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
			for dir := range strings.SplitSeq(dirs, ":") {
				if dir != "" { // "::" comes before data-only layers
					l.lower = append(l.lower, absolute(dir))
				}
			}
		}
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			l.upper = absolute(dir)
		}
	}
	if len(l.lower) == 0 {
		return l, fmt.Errorf("%w: the overlay's layers can't be read", ErrUnmarkable)
	}
	return l, nil
}

// locate finds the file behind an overlay's by its name, and proves that it is
// that file: the name is the container's to change at any moment. It returns -1
// for a file of a lower layer. The times prove that: an upper file would have
// been changed after the overlay was mounted, and ctime is nobody's to set.
// verity is asked of the file that it is.
func (l layers) locate(name string, id fileID, verity func(fd int) string) (fd int, guarded string, err error) {
	for _, dir := range l.lower {
		fd, found, err := openBelow(dir, name)
		if err != nil {
			continue
		}
		is := found.ino == id.ino && found.sameTimes(id)
		if is {
			guarded = verity(fd)
		}
		unix.Close(fd)
		if is {
			return -1, guarded, nil
		}
	}
	if l.upper == "" {
		return -1, "", errUnlocated
	}
	fd, found, err := openBelow(l.upper, name)
	if err != nil {
		return -1, "", errUnlocated
	}
	// A copy keeps the number of its origin, and says whose where no container
	// can write: two copies can have the same times.
	if found.sameTimes(id) && (found.ino == id.ino || copyOf(fd, id.ino)) {
		return fd, verity(fd), nil
	}
	unix.Close(fd)
	return -1, "", errUnlocated
}

func (f fileID) sameTimes(g fileID) bool {
	return f.size == g.size && f.mtime == g.mtime && f.ctime == g.ctime
}

// originHandle is where the file handle begins in trusted.overlay.origin (struct
// ovl_fb, fs/overlayfs/overlayfs.h): behind version, magic, length, flags, type and
// the file system's UUID.
const originHandle = 5 + 16

// copyOf says whether a file was copied up from the one of this number. Its lower
// half is a word of the handle, which one differs from file system to file system:
// ext4 and F2FS begin with it, tmpfs has a generation before it. That another word
// is the same by chance is no way to choose.
func copyOf(fd int, ino uint64) bool {
	var b [256]byte
	n, err := unix.Fgetxattr(fd, "trusted.overlay.origin", b[:])
	if err != nil || n < originHandle {
		return false
	}
	for words := b[originHandle:n]; len(words) >= 4; words = words[4:] {
		if binary.NativeEndian.Uint32(words) == uint32(ino) {
			return true
		}
	}
	return false
}

// openBelow opens a regular file for reading, without symbolic links and never
// outside the directory or its mount.
func openBelow(dir, name string) (int, fileID, error) {
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fileID{}, err
	}
	fd, err := procfs.OpenBelow(top, name)
	unix.Close(top)
	if err != nil {
		return -1, fileID{}, err
	}
	defer unix.Close(fd)
	return openFile(fd)
}

// openFile opens what an O_PATH descriptor is of, if that is a regular file:
// opening a device that a container put in its place may have effects.
func openFile(path int) (int, fileID, error) {
	id, err := identify(path)
	if err != nil {
		return -1, fileID{}, err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, id, err
}
