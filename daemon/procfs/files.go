package procfs

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// FileID names a file, a directory or a namespace for as long as something keeps
// it in being. Afterwards its number may be given to another.
type FileID struct{ Device, Inode uint64 }

// Stat follows a path below the directory descriptor, links of /proc such as
// ns/pid included. For those the kernel asks for the rights of ptrace(2). Of a file that a
// user or another machine serves, what the kernel has is enough: no server is asked.
func Stat(dir int, name string) (FileID, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return FileID{}, err
	}
	return FileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, nil
}

// PIDNamespace asks a pidfd for the pid namespace of its process
// (PIDFD_GET_PID_NAMESPACE, linux/pidfd.h, Linux 6.11). The kernel asks for the
// rights of ptrace(2), as it does for /proc/PID/ns/pid.
func PIDNamespace(pidfd int) (FileID, error) {
	fd, err := unix.IoctlRetInt(pidfd, unix.PIDFD_GET_PID_NAMESPACE)
	if err != nil {
		return FileID{}, fmt.Errorf("PIDFD_GET_PID_NAMESPACE: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return FileID{}, fmt.Errorf("stat a pid namespace: %w", err)
	}
	return FileID{uint64(st.Dev), st.Ino}, nil
}

// OpenBelow opens a path below a directory descriptor, as O_PATH. It follows no
// symbolic link, though the last component may be one, and it never leaves the
// directory or its mount (EXDEV).
func OpenBelow(dir int, name string) (int, error) {
	mount, err := mountID(dir)
	if err != nil {
		return -1, err
	}
	return descend(dir, ".", name, func(fd int) error {
		if m, err := mountID(fd); err != nil || m != mount {
			return cmp.Or(err, error(unix.EXDEV))
		}
		return nil
	})
}

// OpenIn opens a path below a directory descriptor, as O_PATH. It follows no symbolic
// link, though the last component may be one. It goes from mount to mount, as the path
// does, while enter admits each mount by its id; else EXDEV.
func OpenIn(dir int, name string, enter func(mount uint64) bool) (int, error) {
	return descend(dir, ".", name, func(fd int) error {
		if m, err := mountID(fd); err != nil || !enter(m) {
			return cmp.Or(err, error(unix.EXDEV))
		}
		return nil
	})
}

// OpenAbsolute opens an absolute path, as O_PATH. It follows no symbolic link,
// though the last component may be one.
func OpenAbsolute(name string) (int, error) {
	return descend(unix.AT_FDCWD, "/", name, func(int) error { return nil })
}

// descend opens the components of a path one after the other and has each
// checked. One openat2(2) would do, but RestrictSUIDSGID= in cimad's unit forbids
// that call.
func descend(dir int, start, name string, check func(fd int) error) (int, error) {
	fd, err := unix.Openat(dir, start, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for part := range strings.SplitSeq(path.Join("/", name)[1:], "/") {
		if part == "" {
			break
		}
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
		if err := check(fd); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// Readlink returns the target of the symbolic link behind an O_PATH descriptor.
func Readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil || n == 0 || n == len(buf) {
		return "", unix.EINVAL
	}
	return string(buf[:n]), nil
}

// Remote reports whether reads of a file system (f_type of statfs(2)) can take for
// ever, because a user or another machine serves them.
func Remote(fsType int64) bool {
	const cephfs, v9fs, smb2 = 0x00C36400, 0x01021997, 0xFE534D42
	switch fsType {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC & 0xFFFFFFFF, cephfs, v9fs, smb2:
		return true
	}
	return false
}
