package power

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxDescriptors bounds how many open files of a process are looked at.
const maxDescriptors = 1024

// descriptors judges the open files that the container's program inherits. Standard
// input and outputs may be pipes, sockets, /dev/null, a terminal of the container's own or
// a file in a mount of its own; anything else was given, and may be a directory or a socket
// of the host's.
func (j *judge) descriptors() error {
	all, err := procfs.Descriptors(j.process, maxDescriptors)
	if errors.Is(err, procfs.ErrTooMany) {
		j.say(classDescriptor)
		return nil
	}
	for _, d := range all {
		if d.Inherited && (d.Number > 2 || !j.isUsual(d)) {
			j.say(classDescriptor)
		}
	}
	return err
}

// isUsual reports whether a descriptor is one that engines give, or leads to what lies in
// one of the container's own mounts: there it may open what it likes, and by a mount over
// /dev it has the runtime open that. A path begins with a slash, so that none looks like a
// pipe. The file behind it is looked at only if the kernel serves it.
func (j *judge) isUsual(d procfs.Descriptor) bool {
	if strings.HasPrefix(d.Link, "pipe:[") || strings.HasPrefix(d.Link, "socket:[") {
		return true
	}
	m, own := j.byID[d.Mount]
	if !own {
		hosts, ok := j.tables.byID[d.Mount]
		if !ok {
			return false
		}
		m = &hosts
	}
	files := slices.Contains(diskTypes, m.Type) || m.Type == "overlay" || m.Type == "tmpfs"
	if m.Type != "devtmpfs" && m.Type != "devpts" && m.Type != "tmpfs" && !(own && files) {
		return false
	}
	var st unix.Statx_t
	if err := statx(unix.AT_FDCWD, fmt.Sprintf("%s/fd/%d", j.process, d.Number), &st); err != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		null := st.Rdev_major == 1 && st.Rdev_minor == 3
		return null || own && st.Rdev_major == 136
	case unix.S_IFREG, unix.S_IFIFO:
		return own && files
	}
	return false
}

// outputs judges where the engine writes what the container prints: its monitor, which is
// the parent of the first process, has that file open, and is root. In a file of the
// host's choosing the output could be code or orders.
func (j *judge) outputs() error {
	parent, err := procfs.Parent(j.process)
	if err != nil || parent <= 1 { // 1 is no monitor, and adopts whoever has none
		return err
	}
	all, err := procfs.Descriptors(fmt.Sprintf("/proc/%d", parent), maxDescriptors)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, procfs.ErrTooMany):
		j.say(classDescriptor)
		return nil
	}
	for _, d := range all {
		m, ok := j.tables.byID[d.Mount]
		if !ok || !d.Writable || !slices.Contains(diskTypes, m.Type) && !slices.Contains(placeTypes, m.Type) {
			continue
		}
		var st unix.Statx_t
		own := slices.ContainsFunc(j.c.Logs, func(dir string) bool { return within(d.Link, dir) })
		if err := statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/fd/%d", parent, d.Number), &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && !own {
			j.say(classDescriptor)
		}
	}
	return err
}

// workingDirectory judges where the process works: in one of its own mounts, or the
// runtime leaked a directory of the host's (CVE-2024-21626).
func (j *judge) workingDirectory(ctx context.Context) error {
	type answer struct {
		mount uint64
		err   error
	}
	// A network's file system may ask its server, and that may never answer.
	done := make(chan answer, 1)
	go func() {
		var st unix.Statx_t
		err := statx(unix.AT_FDCWD, j.process+"/cwd", &st)
		done <- answer{st.Mnt_id, err}
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a := <-done:
		if a.err == nil && j.byID[a.mount] == nil {
			j.say(classDirectory)
		}
		return a.err
	}
}

// capabilityNames are the capabilities by number (capabilities(7)).
var capabilityNames = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN
	CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
	CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
	CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM
	CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// capabilities judges those that the process has, whatever the specification says. Its
// seccomp filter is not looked at: crun loads it later, just before the program.
func (j *judge) capabilities() error {
	set, err := procfs.Capabilities(j.process)
	j.say(capabilitiesOf(set)...)
	return err
}
