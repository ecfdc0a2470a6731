package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupPrefix = "cima-test-"

// cgroups are one cgroup in each mounted hierarchy, all with the same name.
type cgroups struct{ name string }

// hierarchy is a mounted cgroup file system.
type hierarchy struct {
	at, kind, options string // options of its superblock
}

func hierarchies() (all []hierarchy, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		of, super, _ := strings.Cut(lines.Text(), " - ")
		fields, about := strings.Fields(of), strings.Fields(super)
		if len(fields) < 5 || len(about) < 3 || about[0] != "cgroup" && about[0] != "cgroup2" {
			continue
		}
		if !slices.ContainsFunc(all, func(h hierarchy) bool { return h.at == fields[4] }) {
			all = append(all, hierarchy{fields[4], about[0], about[2]})
		}
	}
	if err == nil && len(all) == 0 {
		err = errors.New("no cgroup file system is mounted")
	}
	return all, errors.Join(err, lines.Err())
}

// newCgroups makes the cgroups, and removes those that a killed run left
// behind.
func newCgroups() (cgroups, error) {
	all, err := hierarchies()
	if err != nil {
		return cgroups{}, err
	}
	for _, h := range all {
		old, _ := filepath.Glob(filepath.Join(h.at, cgroupPrefix+"*"))
		for _, dir := range old {
			pid := strings.TrimPrefix(filepath.Base(dir), cgroupPrefix)
			if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
				cgroups{filepath.Base(dir)}.remove()
			}
		}
	}
	c := cgroups{cgroupPrefix + strconv.Itoa(os.Getpid())}
	for _, h := range all {
		dir := filepath.Join(h.at, c.name)
		if err := errors.Join(os.Mkdir(dir, 0o755), h.inherit(dir)); err != nil {
			c.remove()
			return cgroups{}, err
		}
	}
	return c, nil
}

// inherit copies the processors and the memory that the parent may use to a
// cgroup of v1.
func (h hierarchy) inherit(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name)); err == nil && h.kind == "cgroup" {
			if err := os.WriteFile(filepath.Join(dir, name), above, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// enter moves this process into the cgroups, and mounts the file systems again
// so that these cgroups are the roots. It must run on one thread, in a mount
// namespace of its own.
func (c cgroups) enter() error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := os.WriteFile(filepath.Join(h.at, c.name, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("enter the cgroup: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	for _, h := range all {
		var options []string
		for o := range strings.SplitSeq(h.options, ",") {
			if h.kind == "cgroup" && o != "rw" && o != "ro" || o == "nsdelegate" {
				options = append(options, o)
			}
		}
		if err := unix.Unmount(h.at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", h.at, err)
		}
		if err := unix.Mount("cgroup", h.at, h.kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, strings.Join(options, ",")); err != nil {
			return fmt.Errorf("mount %s at %s: %w", h.kind, h.at, err)
		}
	}
	return delegate(all)
}

// delegate lets child cgroups use the controllers of v2. After that no process
// may be in the root. Next to v1 no engine needs a controller of v2, but somebody
// else on the machine may have enabled one.
func delegate(all []hierarchy) error {
	if slices.ContainsFunc(all, func(h hierarchy) bool { return h.kind == "cgroup" }) {
		return nil
	}
	for _, h := range all {
		text, err := os.ReadFile(filepath.Join(h.at, "cgroup.controllers"))
		if h.kind != "cgroup2" || err != nil || len(strings.Fields(string(text))) == 0 {
			continue
		}
		dir := filepath.Join(h.at, "program")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644)); err != nil {
			return err
		}
		for _, controller := range strings.Fields(string(text)) {
			if err := os.WriteFile(filepath.Join(h.at, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("delegate %s: %w", controller, err)
			}
		}
	}
	return nil
}

// remove removes the cgroups and everything below. Their processes have ended,
// but the kernel may need a moment to notice.
func (c cgroups) remove() error {
	all, err := hierarchies()
	if err != nil || c.name == "" {
		return err
	}
	var left error
	for range 50 {
		left = nil
		for _, h := range all {
			left = errors.Join(left, removeTree(filepath.Join(h.at, c.name)))
		}
		if left == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("cgroups are left: %w", left)
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, e.Name())))
		}
	}
	if err == nil {
		err = os.Remove(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
