package power

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

const (
	// maxWalk is how many entries of directories are looked at for all mounts of a start
	// together. It is a count: by time, one container would be judged differently when
	// the disk is cold.
	maxWalk = 20_000

	maxWalkDepth = 128 // of directories: each keeps one descriptor open
)

// found is what lies below a directory.
type found struct {
	special bool // a socket, FIFO or device
	unseen  bool // more than may be looked at, or a directory that can't be read
	private bool // something that open refuses
}

// walker looks below directories, without leaving their mount and without following
// links.
type walker struct {
	left int // entries that may still be looked at
	buf  []byte

	// data are directories that are passed over: declared data is judged by itself, and
	// containers write there.
	data map[procfs.FileID]bool
}

// tree looks below the directory behind an O_PATH descriptor. Where open isn't nil, it is
// asked about each entry but symbolic links. Nothing more is looked at once something
// was found.
func (w *walker) tree(fd int, mount uint64, open func(uid uint32, mode uint16) bool) (f found) {
	if w.buf == nil {
		w.buf = make([]byte, 64<<10)
	}
	w.below(fd, mount, open, &f, 0)
	return f
}

func (w *walker) below(fd int, mount uint64, open func(uint32, uint16) bool, f *found, depth int) {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || depth == maxWalkDepth {
		f.unseen = true
		if err == nil {
			unix.Close(dir)
		}
		return
	}
	defer unix.Close(dir)
	var directories []string
	for !f.special && !f.private {
		n, err := unix.Getdents(dir, w.buf)
		if err != nil {
			f.unseen = true
		}
		if n <= 0 || err != nil {
			break
		}
		for name, kind := range entries(w.buf[:n]) {
			if w.left--; w.left < 0 {
				w.left, f.unseen = 0, true
				return
			}
			if kind = w.entry(dir, name, kind, open, f); kind == unix.DT_DIR {
				directories = append(directories, name)
			}
			if f.special || f.private {
				return
			}
		}
	}
	for _, name := range directories {
		if f.special || f.private || w.left == 0 && f.unseen {
			return
		}
		w.into(dir, name, mount, open, f, depth)
	}
}

// entry looks at one entry, and returns its type.
func (w *walker) entry(dir int, name string, kind uint8, open func(uint32, uint16) bool, f *found) uint8 {
	if kind == unix.DT_UNKNOWN || open != nil && kind != unix.DT_LNK {
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) != nil {
			f.unseen = true
			return unix.DT_UNKNOWN
		}
		kind = uint8(st.Mode & unix.S_IFMT >> 12)
		f.private = f.private || open != nil && kind != unix.DT_LNK && !open(st.Uid, uint16(st.Mode))
	}
	switch kind {
	case unix.DT_REG, unix.DT_DIR, unix.DT_LNK:
	default:
		f.special = true
	}
	return kind
}

// into looks below a directory of the same mount. Another mount is judged by itself.
func (w *walker) into(dir int, name string, mount uint64, open func(uint32, uint16) bool, f *found, depth int) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		f.unseen = true
		return
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	switch err := statx(fd, "", &st); {
	case err != nil:
		f.unseen = true
	case w.data[procfs.FileID{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino}]:
	case st.Mnt_id == mount:
		w.below(fd, mount, open, f, depth+1)
	}
}

// entries yields names and types of what getdents64(2) wrote, without "." and "..".
func entries(buf []byte) func(yield func(string, uint8) bool) {
	const header = 19 // inode, offset, length, type
	return func(yield func(string, uint8) bool) {
		for len(buf) > header {
			length := int(binary.NativeEndian.Uint16(buf[16:]))
			if length <= header || length > len(buf) {
				return
			}
			name, _, _ := bytes.Cut(buf[header:length], []byte{0})
			if s := string(name); s != "." && s != ".." && !yield(s, buf[18]) {
				return
			}
			buf = buf[length:]
		}
	}
}
