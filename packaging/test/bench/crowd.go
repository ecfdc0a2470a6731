package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// crowded makes many containers, in the form that docker and runc give them:
// cgroups, a first process in a pid namespace of its own, a bundle and the
// runtime's state. Daemon and kernel are real.
type crowded struct {
	root   string   // --exec-root of a dockerd
	parent string   // of their cgroups
	mounts []string // of the cgroup hierarchies
	inits  []*exec.Cmd
	ids    []string
}

func (c *crowded) begin(ctx context.Context, n int) ([]string, error) {
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		c.mounts = append(c.mounts, filepath.Dir(f))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		c.mounts = []string{"/sys/fs/cgroup"}
	}
	for range n {
		if err := errors.Join(ctx.Err(), c.add()); err != nil {
			return nil, err
		}
	}
	return c.ids, nil
}

func (c *crowded) add() error {
	id := fmt.Sprintf("%016x%016x%016x%016x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64())
	c.ids = append(c.ids, id)
	init := exec.Command("/bin/sleep", "100000")
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Setsid: true}
	if err := init.Start(); err != nil {
		return err
	}
	c.inits = append(c.inits, init)
	for _, mount := range c.mounts {
		dir := filepath.Join(mount, c.parent, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(mount, "cpuset") {
			inheritCPUs(filepath.Dir(dir), dir)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, init.Process.Pid), 0o644); err != nil {
			return err
		}
	}
	return c.record(id, init.Process.Pid)
}

func inheritCPUs(dirs ...string) {
	for _, dir := range dirs {
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			above, _ := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
			os.WriteFile(filepath.Join(dir, name), above, 0o644)
		}
	}
}

// record writes bundle and runtime state.
func (c *crowded) record(id string, pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	started := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	paths := make(map[string]string) // as runc notes them
	for _, mount := range c.mounts {
		switch name := filepath.Base(mount); name {
		case "cgroup":
			paths[""] = filepath.Join(mount, c.parent, id)
		case "unified":
		default:
			paths[name] = filepath.Join(mount, c.parent, id)
		}
	}
	made, err := json.Marshal(paths)
	if err != nil {
		return err
	}
	const bundle = `{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/bin/sleep","1000"],"cwd":"/","noNewPrivileges":true},
"root":{"path":"rootfs"},"linux":{"cgroupsPath":%q,"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},
"maskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list"],"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"],
"resources":{"devices":[{"allow":false,"access":"rwm"}]},
"namespaces":[{"type":"mount"},{"type":"network"},{"type":"uts"},{"type":"pid"},{"type":"ipc"}]}}`
	for path, text := range map[string]string{
		c.bundle(id) + "/config.json": fmt.Sprintf(bundle, "/"+c.parent+"/"+id),
		c.state(id) + "/state.json":   fmt.Sprintf(`{"id":%q,"init_process_pid":%d,"init_process_start":%s,"cgroup_paths":%s}`, id, pid, started, made),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowded) bundle(id string) string {
	return filepath.Join(c.root, "containerd/daemon/io.containerd.runtime.v2.task/moby", id)
}

func (c *crowded) state(id string) string { return filepath.Join(c.root, "runtime-runc/moby", id) }

// end removes all of it.
func (c *crowded) end() {
	for _, init := range c.inits {
		init.Process.Kill()
	}
	for _, init := range c.inits {
		init.Wait()
	}
	for _, mount := range c.mounts {
		for _, id := range c.ids {
			os.Remove(filepath.Join(mount, c.parent, id))
		}
		os.Remove(filepath.Join(mount, c.parent))
	}
}
