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

// errUnlocated says that the layer that holds a file's bytes was not found, so that
// it is not known which programs can write it.
var errUnlocated = errors.New("the layer that holds the file was not found")

// layers are the directories of an overlay. A lease on the overlay's own inode does
// not see all writers: a shared mapping is of the file in the upper layer, and only
// a lease on that file conflicts with it. No program writes a file of a lower
// layer: the first one that opens it for writing gets a copy in the upper layer.
type layers struct {
	upper string
	lower []string
}

// parseLayers reads an overlay's options as mountinfo shows them. An engine with
// many layers names them relative to the driver's directory, two above the mount.
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

// locate finds the layer's file of an overlay's file by its name, and proves that it
// is that file, because the container can change the name at any moment. It returns
// an open descriptor, or -1 for a file of a lower layer. The times prove a lower
// file: a file of the upper layer has changed after the overlay was mounted, and no
// program can set ctime. guarded is what verity returns for the file found.
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
	// Two copies can have the same times. A copy names the inode of its origin in
	// an attribute that no container can write.
	if found.sameTimes(id) && (found.ino == id.ino || copyOf(fd, id.ino)) {
		return fd, verity(fd), nil
	}
	unix.Close(fd)
	return -1, "", errUnlocated
}

func (f fileID) sameTimes(g fileID) bool {
	return f.size == g.size && f.mtime == g.mtime && f.ctime == g.ctime
}

// originHandle is the offset of the file handle in trusted.overlay.origin (struct
// ovl_fb, fs/overlayfs/overlayfs.h): after version, magic, length, flags, type and
// the file system's UUID.
const originHandle = 5 + 16

// copyOf reports whether a file was copied up from the file with this inode number.
// The number's lower half is a word of the handle. Which word differs between file
// systems: ext4 and F2FS begin with it, tmpfs has a generation before it. Another
// word may be equal by chance, but a container can't choose it.
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

// openFile opens the file of an O_PATH descriptor, if it is a regular file: to open
// a device that a container put in its place may have effects.
func openFile(path int) (int, fileID, error) {
	id, err := identify(path)
	if err != nil {
		return -1, fileID{}, err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, id, err
}
