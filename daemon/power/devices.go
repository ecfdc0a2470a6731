package power

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// capabilitiesOf returns the classes of a set of capabilities.
func capabilitiesOf(set uint64) (out []string) {
	usual := launch.DockerCapabilities()
	for n := range 64 {
		switch {
		case set&(1<<n) == 0:
		case n >= len(capabilityNames):
			out = append(out, classCapability+unknownElse)
		case !slices.Contains(usual, capabilityNames[n]):
			out = append(out, classCapability+capabilityNames[n])
		}
	}
	return out
}

// devices judges the nodes below the container's /dev, which a runtime or an option made
// there. A directory that can't be read, or holds too much, has no nodes that are known:
// the rules of the device cgroup are judged by the specification.
func (j *judge) devices() {
	if j.root < 0 {
		return
	}
	fd, err := procfs.OpenIn(j.root, "dev", j.mayEnter)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if statx(fd, "", &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	j.nodes(fd, st.Mnt_id, 0)
}

// nodes judges those in a directory and below.
func (j *judge) nodes(fd int, mount uint64, depth int) {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || depth > 8 {
		return
	}
	defer unix.Close(dir)
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(dir, buf)
		if n <= 0 || err != nil {
			return
		}
		for name := range entries(buf[:n]) {
			if j.walk.left--; j.walk.left < 0 {
				j.walk.left = 0
				j.say(classDevice + "*")
				return
			}
			j.node(dir, name, mount, depth)
		}
	}
}

func (j *judge) node(dir int, name string, mount uint64, depth int) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if statx(fd, "", &st) != nil || st.Mnt_id != mount {
		return // a mount is judged by itself
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		j.nodes(fd, mount, depth+1)
	case unix.S_IFCHR:
		if !usualDevice(st.Rdev_major, st.Rdev_minor) {
			j.say(fmt.Sprintf("%sc:%d:%d", classDevice, st.Rdev_major, st.Rdev_minor))
		}
	case unix.S_IFBLK:
		j.say(fmt.Sprintf("%sb:%d:%d", classDevice, st.Rdev_major, st.Rdev_minor))
	}
}
