package power

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

var (
	// diskTypes are file systems on disks, which hold what somebody put there.
	diskTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "erofs", "squashfs"}

	// placeTypes are others in which the host has files and sockets, at paths.
	placeTypes = []string{"tmpfs", "ramfs", "devtmpfs", "overlay"}

	// ownTypes are harmless where the runtime mounted them anew; sysfs read-only.
	ownTypes = []string{"proc", "sysfs", "devpts", "mqueue", "tmpfs"}

	// otherTypes are the kernel's, and may be looked at: nobody else serves them.
	otherTypes = []string{"cgroup", "cgroup2", "hugetlbfs"}

	// namedTypes are those that a class names, besides. What follows a dot is a user's
	// choice (fuse.NAME).
	namedTypes = []string{
		"9p", "afs", "autofs", "binfmt_misc", "bpf", "ceph", "cifs", "configfs", "debugfs", "efivarfs", "exfat", "fuse",
		"fuseblk", "fusectl", "iso9660", "nfs", "nfs4", "nsfs", "ntfs3", "pstore", "resctrl", "rpc_pipefs", "securityfs",
		"selinuxfs", "smackfs", "smb3", "tracefs", "vfat", "virtiofs",
	}
)

// named is the name of a file system's type in a class.
func named(kind string) string {
	kind, _, _ = strings.Cut(kind, ".")
	for _, list := range [][]string{diskTypes, placeTypes, ownTypes, otherTypes, namedTypes} {
		if slices.Contains(list, kind) {
			return kind
		}
	}
	return unknownElse
}

// local reports whether a file system may be looked at. Whoever serves FUSE or a
// network's files can have us wait for ever.
func local(kind string) bool {
	return slices.Contains(diskTypes, kind) || slices.Contains(placeTypes, kind) || slices.Contains(ownTypes, kind) || slices.Contains(otherTypes, kind)
}

// seen is what lies at the root of a mount.
type seen struct {
	fd             int    // O_PATH
	mount          uint64 // by which fd sees it
	id             procfs.FileID
	mode           uint16
	uid            uint32
	links          uint32
	rmajor, rminor uint32
}

func (s *seen) is(kind uint16) bool { return s.mode&unix.S_IFMT == kind }

// openRoot opens the root directory of the process, if its file system may be looked at.
func (j *judge) openRoot() (err error) {
	j.root = -1
	if m := j.mountAt("/"); m == nil || !local(m.Type) {
		return nil
	}
	j.root, err = unix.Open(j.process+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// mountAt returns the mount on top at a point.
func (j *judge) mountAt(point string) (top *procfs.Mount) {
	i, found := slices.BinarySearchFunc(j.mounts, point, func(m procfs.Mount, point string) int { return strings.Compare(m.Point, point) })
	for ; found && i < len(j.mounts) && j.mounts[i].Point == point; i++ {
		top = &j.mounts[i]
	}
	return top
}

// look opens the root of a mount; nil: another mount covers it, a directory that the
// daemon may not search, or a file system that may not be looked at lies on the way.
func (j *judge) look(m *procfs.Mount) *seen {
	if j.root < 0 {
		return nil
	}
	fd, err := procfs.OpenIn(j.root, m.Point, j.mayEnter)
	if err != nil {
		return nil
	}
	var st unix.Statx_t
	if err := statx(fd, "", &st); err != nil || st.Mnt_id != m.ID {
		unix.Close(fd)
		return nil
	}
	return newSeen(fd, m.ID, &st)
}

func newSeen(fd int, mount uint64, st *unix.Statx_t) *seen {
	return &seen{
		fd: fd, mount: mount, id: procfs.FileID{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino},
		mode: st.Mode, uid: st.Uid, links: st.Nlink, rmajor: st.Rdev_major, rminor: st.Rdev_minor,
	}
}

// mayEnter reports whether a mount may be looked at. What covers a directory on the way to
// a mount needn't be among those above that mount.
func (j *judge) mayEnter(mount uint64) bool {
	m, ok := j.byID[mount]
	return ok && local(m.Type)
}

// statx asks no server: what the kernel has is enough.
func statx(fd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
}

// mount judges one mount.
func (j *judge) mount(m *procfs.Mount) {
	s := j.look(m)
	if s == nil {
		s = j.fromHost(m)
	}
	if s != nil {
		defer unix.Close(s.fd)
	}
	if m.Group != 0 && j.tables.groups[m.Group] {
		j.say(classPropagation)
	}
	j.say(j.mountClass(m, s)...)
	j.note(m)
}

// mountClass returns the class of a mount, or none.
func (j *judge) mountClass(m *procfs.Mount, s *seen) []string {
	one := func(class string) []string { return []string{class} }
	switch {
	case !local(m.Type):
		return one(classMount + named(m.Type))
	case s != nil && m.Point == "/" && j.isRoot(m, s):
		return nil
	case s != nil && j.files[s.id]:
		return nil
	case j.own(m):
		if s != nil && m.Type == "proc" && !m.ReadOnly && !j.isProtected(m, s) {
			return one(classUnconfined + "paths")
		}
		return nil
	case m.Type == "cgroup" || m.Type == "cgroup2":
		if m.ReadOnly && j.isOwnCgroup(m.Root) {
			return nil
		}
		return one(classMount + m.Type)
	case s == nil && j.isVolume(m, nil):
		return nil
	case s == nil:
		return one(classCovered + named(m.Type))
	case s.is(unix.S_IFCHR) && usualDevice(s.rmajor, s.rminor):
		return nil
	case slices.Contains(diskTypes, m.Type) || slices.Contains(placeTypes, m.Type):
		return j.placed(m, s)
	}
	return one(classMount + named(m.Type))
}

// own reports whether the runtime mounted a file system for this container: its
// superblock is none of the host's. Parts of it (masked paths) are its own too.
func (j *judge) own(m *procfs.Mount) bool {
	return len(j.tables.byDevice[m.Device]) == 0 && slices.Contains(ownTypes, m.Type) && (m.Type != "sysfs" || m.ReadOnly)
}

// kernelPaths are those of /proc by which root of a container controls the kernel.
var kernelPaths = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"}

// isProtected reports whether other mounts make these paths of a proc file system
// read-only, or hide them. A kernel may lack one.
func (j *judge) isProtected(m *procfs.Mount, s *seen) bool {
	for _, name := range kernelPaths {
		top := j.mountAt(path.Join(m.Point, name))
		if top != nil && (top.Type != "proc" || top.ReadOnly) {
			continue
		}
		var st unix.Statx_t
		if top != nil || statx(s.fd, name, &st) != unix.ENOENT {
			return false
		}
	}
	return m.Root == "/"
}

// isRoot reports whether a mount is the root file system that the engine made for this
// container: an overlay that is mounted at the bundle's root.path. One that a user chose
// (podman run --rootfs) is judged like other mounts.
func (j *judge) isRoot(m *procfs.Mount, s *seen) bool {
	if !j.c.OwnRoot || m.Type != "overlay" && !j.c.AnyRoot {
		return false
	}
	at, err := j.host.find(j.c.Root)
	at.close()
	return err == nil && at.path == j.c.Root && at.path != "/" && at.last().id() == s.id
}

// isOwnCgroup reports whether a cgroup is the container's, or below it (crun).
func (j *judge) isOwnCgroup(root string) bool {
	return root != "/" && (j.cgroups[root] || j.c.Cgroup != "" && within(root, j.c.Cgroup))
}

// usualDevice reports whether engines let every container open a character device.
func usualDevice(major, minor uint32) bool {
	switch major {
	case 1:
		return slices.Contains([]uint32{3, 5, 7, 8, 9}, minor)
	case 5:
		return minor <= 2
	}
	return major == 136
}
