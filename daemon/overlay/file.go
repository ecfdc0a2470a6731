package overlay

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// File is all metadata of a file in which a change shows.
type File struct {
	Device, Inode uint64
	Size          int64
	Mtime, Ctime  unix.Timespec
}

var errNoFile = errors.New("no regular file")

// Identify returns the metadata of a regular file, which may be open as O_PATH.
func Identify(fd int) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return File{}, fmt.Errorf("fstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return File{}, errNoFile
	}
	return File{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Open opens the file of an O_PATH descriptor for reading, if it is a regular file: to
// open a device that a container put in its place may have effects. O_NONBLOCK: opening
// does not wait where the container has a lease, but fails.
func Open(path int) (int, File, error) {
	id, err := Identify(path)
	if err != nil {
		return -1, File{}, err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	return fd, id, err
}

func (f File) sameTimes(g File) bool {
	return f.Size == g.Size && f.Mtime == g.Mtime && f.Ctime == g.Ctime
}
