// Package overlay answers: which layer of an overlay has the bytes of a file?
//
// An overlay has inodes of its own. Who may write a file, by descriptor or by mapping,
// shows on the layer's inode; so does fs-verity's digest.
package overlay

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// ErrUnlocated says that the layer that holds a file's bytes was not found, so that
// it is not known which programs can write it.
var ErrUnlocated = errors.New("the layer that holds the file was not found")

// Layers are the directories of an overlay. A lease on the overlay's own inode does
// not see all writers: a shared mapping is of the file in the upper layer, and only
// a lease on that file conflicts with it. No program writes a file of a lower
// layer: the first one that opens it for writing gets a copy in the upper layer.
type Layers struct {
	upper string
	lower []string
}

// Parse reads an overlay's options as mountinfo shows them. An engine with
// many layers names them relative to the driver's directory, two above the mount.
func Parse(options, mount string) (Layers, error) {
	var l Layers
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
		return l, errors.New("the overlay's layers can't be read")
	}
	return l, nil
}

// Locate finds the layer's file of an overlay's file by its name, and proves that it
// is that file, because the container can change the name at any moment. It returns
// an open descriptor, or -1 for a file of a lower layer. The times prove a lower
// file: a file of the upper layer has changed after the overlay was mounted, and no
// program can set ctime. guarded is what verity returns for the file found.
func (l Layers) Locate(name string, id File, verity func(fd int) string) (fd int, guarded string, err error) {
	for _, dir := range l.lower {
		fd, found, err := openBelow(dir, name)
		if err != nil {
			continue
		}
		is := found.Inode == id.Inode && found.sameTimes(id)
		if is {
			guarded = verity(fd)
		}
		unix.Close(fd)
		if is {
			return -1, guarded, nil
		}
	}
	if l.upper == "" {
		return -1, "", ErrUnlocated
	}
	fd, found, err := openBelow(l.upper, name)
	if err != nil {
		return -1, "", ErrUnlocated
	}
	// Two copies can have the same times. A copy names the inode of its origin in
	// an attribute that no container can write.
	if found.sameTimes(id) && (found.Inode == id.Inode || copyOf(fd, id.Inode)) {
		return fd, verity(fd), nil
	}
	unix.Close(fd)
	return -1, "", ErrUnlocated
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
func openBelow(dir, name string) (int, File, error) {
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, File{}, err
	}
	fd, err := procfs.OpenBelow(top, name)
	unix.Close(top)
	if err != nil {
		return -1, File{}, err
	}
	defer unix.Close(fd)
	return Open(fd)
}
