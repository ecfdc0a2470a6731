package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMountinfo bounds what is read of a mount namespace: fs.mount-max is 100,000.
const maxMountinfo = 64 << 20

// Mount is a line of proc_pid_mountinfo(5).
type Mount struct {
	ID, Parent  uint64
	Device      uint64 // as st_dev of stat(2), save on btrfs
	Root, Point string // directory or file of the file system, and where it is mounted
	ReadOnly    bool   // here, or the whole file system
	Group       uint64 // the peer group that it is shared in; 0: not shared
	Type        string // of the file system
	Options     string // of the file system, as the kernel escaped them: see Unescape
}

// Mounts reads the mounts of the namespace of a process, which is given as its
// directory of /proc: "/proc/self".
func Mounts(process string) ([]Mount, error) {
	file := filepath.Join(process, "mountinfo")
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMountinfo+1))
	if err == nil && len(text) > maxMountinfo {
		err = fmt.Errorf("%s has more than %d bytes", file, maxMountinfo)
	}
	if err != nil {
		return nil, err
	}
	return parseMounts(text)
}

// parseMounts reads lines such as
//
//	36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/vda rw,errors=continue
func parseMounts(text []byte) ([]Mount, error) {
	out := make([]Mount, 0, bytes.Count(text, []byte("\n")))
	for line := range strings.Lines(string(text)) {
		mount, super, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fields, of := strings.Fields(mount), strings.Fields(super)
		if !found || len(fields) < 6 || len(of) < 3 {
			return nil, fmt.Errorf("mountinfo: a mount has %d and %d fields", len(fields), len(of))
		}
		m := Mount{Root: Unescape(fields[3]), Point: Unescape(fields[4]), Type: of[0], Options: of[len(of)-1]}
		m.ReadOnly = readOnly(fields[5]) || readOnly(m.Options)
		var errs [4]error
		m.ID, errs[0] = strconv.ParseUint(fields[0], 10, 64)
		m.Parent, errs[1] = strconv.ParseUint(fields[1], 10, 64)
		m.Device, errs[2] = parseDevice(fields[2])
		m.Group, errs[3] = peerGroup(fields[6:])
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("mountinfo: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// readOnly reports whether options begin with "ro", where the kernel writes it.
func readOnly(options string) bool { return options == "ro" || strings.HasPrefix(options, "ro,") }

// peerGroup reads the optional fields of a mount.
func peerGroup(fields []string) (uint64, error) {
	for _, f := range fields {
		if group, ok := strings.CutPrefix(f, "shared:"); ok {
			return strconv.ParseUint(group, 10, 64)
		}
	}
	return 0, nil
}

func parseDevice(field string) (uint64, error) {
	major, minor, _ := strings.Cut(field, ":")
	a, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("device: %w", err)
	}
	b, err := strconv.ParseUint(minor, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("device: %w", err)
	}
	return unix.Mkdev(uint32(a), uint32(b)), nil
}

// Unescape undoes what the kernel does to spaces, backslashes and the like: it
// writes them as a backslash and three octal digits.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountID tells mounts apart, those of one file system too (Linux 5.8).
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, unix.ENOSYS
	}
	return st.Mnt_id, nil
}

// localTypes are file systems whose files nobody else serves: to open one, or to read it,
// takes no longer than a disk does.
var localTypes = []string{
	"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "erofs", "squashfs",
	"overlay", "tmpfs", "ramfs", "devtmpfs",
}

// IsLocal reports whether a file behind an O_PATH descriptor, which a process has in its
// mount namespace, lies on a file system whose files nobody else serves. It asks the file
// system nothing: statfs(2) may take for ever. A file whose mount is gone is none.
func IsLocal(fd, pid int) (bool, error) {
	id, err := mountID(fd)
	if err != nil {
		return false, err
	}
	all, err := Mounts(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return false, err
	}
	for _, m := range all {
		if m.ID == id {
			return slices.Contains(localTypes, m.Type), nil
		}
	}
	return false, nil
}
