package procfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxStatus bounds what is read of a small file of /proc. A descriptor of an epoll
// instance has a line for each file that it watches.
const maxStatus = 64 << 10

// Descriptor is an open file of a process.
type Descriptor struct {
	Number    int
	Inherited bool // by the next program: without O_CLOEXEC
	Writable  bool
	Mount     uint64 // id of the mount that the file was opened in
	Link      string // "/path", "pipe:[7]", "socket:[7]", "anon_inode:…"
}

// Descriptors lists the open files of a process, which is given as its directory of
// /proc, and opens none of them. More than limit are an error.
func Descriptors(process string, limit int) ([]Descriptor, error) {
	dir, err := os.Open(process + "/fd")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > limit {
		return nil, fmt.Errorf("%s/fd: %w: more than %d", process, ErrTooMany, limit)
	}
	out := make([]Descriptor, 0, len(names))
	for _, name := range names {
		text, err := readText(process + "/fdinfo/" + name)
		if errors.Is(err, unix.ENOENT) {
			continue // closed
		}
		if err != nil {
			return nil, err
		}
		d, err := parseDescriptor(text)
		if err != nil {
			return nil, fmt.Errorf("%s/fdinfo/%s: %w", process, name, err)
		}
		if d.Number, err = strconv.Atoi(name); err != nil {
			return nil, err
		}
		if d.Link, err = os.Readlink(process + "/fd/" + name); err != nil {
			continue // closed
		}
		out = append(out, d)
	}
	return out, nil
}

// ErrTooMany says that something has more parts than are looked at.
var ErrTooMany = errors.New("too many")

// parseDescriptor reads the lines "flags:" and "mnt_id:" of proc_pid_fdinfo(5). What
// follows them may be of any form.
func parseDescriptor(text string) (d Descriptor, err error) {
	flags, found := field(text, "flags")
	if !found {
		return d, errors.New("there must be flags")
	}
	n, err := strconv.ParseUint(flags, 8, 64)
	if err != nil {
		return d, fmt.Errorf("flags: %w", err)
	}
	d.Inherited, d.Writable = n&unix.O_CLOEXEC == 0, n&unix.O_ACCMODE != unix.O_RDONLY
	mount, found := field(text, "mnt_id")
	if !found {
		return d, errors.New("there must be a mnt_id")
	}
	d.Mount, err = strconv.ParseUint(mount, 10, 64)
	return d, err
}

// Capabilities returns the union of all capability sets of a process, which is given as
// its directory of /proc: bit n is capability n.
func Capabilities(process string) (uint64, error) {
	text, err := readText(process + "/status")
	if err != nil {
		return 0, err
	}
	return parseCapabilities(text)
}

func parseCapabilities(text string) (all uint64, err error) {
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		value, found := field(text, name)
		if !found {
			return 0, fmt.Errorf("status: there must be %s", name)
		}
		set, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return 0, fmt.Errorf("status: %s: %w", name, err)
		}
		all |= set
	}
	return all, nil
}

// field returns what follows "name:" in the first line that begins so.
func field(text, name string) (string, bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

func readText(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStatus))
	return string(text), err
}
