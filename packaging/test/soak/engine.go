package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	cgroupParent = "cima-soak"
	imageID      = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed"
	realDocker   = "/run/docker.sock"
)

// fakeEngine makes the files that docker and runc make of a container, and
// answers API requests about it. It passes requests about other containers to
// the real docker.
type fakeEngine struct {
	root   string   // --exec-root
	parent string   // cgroup
	mounts []string // of the cgroup hierarchies
	socket string
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex
	known  map[string]bool
	server *http.Server
	slow   atomic.Int64 // nanoseconds before it answers
	broken atomic.Bool  // it answers 500
}

func newFakeEngine(m *manager) (*fakeEngine, error) {
	e := &fakeEngine{
		root: m.path("exec"), parent: fmt.Sprintf("%s-%d", cgroupParent, os.Getpid()), socket: m.path("engine.sock"),
		known: make(map[string]bool),
	}
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		e.mounts = append(e.mounts, filepath.Dir(f))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		e.mounts = []string{"/sys/fs/cgroup"}
	}
	e.proxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	e.proxy.FlushInterval = -1
	e.proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusNotFound)
	}
	e.proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", realDocker)
	}}
	return e, e.appear()
}

// appear and vanish are a restart of the engine.
func (e *fakeEngine) appear() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		return err
	}
	e.server = &http.Server{Handler: e}
	go e.server.Serve(l)
	return nil
}

func (e *fakeEngine) vanish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server.Close() // removes the socket, too
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Duration(e.slow.Load()))
	if e.broken.Load() {
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	}
	id := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/containers/"), "/json")
	e.mu.Lock()
	known := e.known[id]
	e.mu.Unlock()
	switch {
	case known:
		fmt.Fprintf(w, `{"Id":%q,"Image":"sha256:%s","Config":{"Image":"soak/app:1"}}`, id, imageID)
	case r.URL.Path == "/images/sha256:"+imageID+"/json":
		fmt.Fprintf(w, `{"Id":"sha256:%s","RepoTags":["soak/app:1"],"RootFS":{"Layers":["sha256:%s"]}}`, imageID, imageID)
	default:
		e.proxy.ServeHTTP(w, r)
	}
}

func (e *fakeEngine) bundle(id string) string {
	return filepath.Join(e.root, "containerd/daemon/io.containerd.runtime.v2.task/moby", id)
}

func (e *fakeEngine) state(id string) string { return filepath.Join(e.root, "runtime-runc/moby", id) }

// adopt makes a container of a process: its cgroups, then its bundle, and last
// its state.
func (e *fakeEngine) adopt(id string, pid int) error {
	e.mu.Lock()
	e.known[id] = true
	e.mu.Unlock()
	for _, mount := range e.mounts {
		dir := filepath.Join(mount, e.parent, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(mount, "cpuset") {
			for _, d := range []string{filepath.Dir(dir), dir} {
				for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
					above, _ := os.ReadFile(filepath.Join(filepath.Dir(d), name))
					os.WriteFile(filepath.Join(d, name), above, 0o644)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return e.record(id, pid)
}

func (e *fakeEngine) record(id string, pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	paths := make(map[string]string) // as runc notes them
	for _, mount := range e.mounts {
		switch name := filepath.Base(mount); name {
		case "cgroup":
			paths[""] = filepath.Join(mount, e.parent, id)
		case "unified":
		default:
			paths[name] = filepath.Join(mount, e.parent, id)
		}
	}
	made, err := json.Marshal(paths)
	if err != nil {
		return err
	}
	started := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	for _, file := range []struct{ path, text string }{
		{filepath.Join(e.bundle(id), "config.json"), fmt.Sprintf(`{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/soak"],`+
			`"env":["HOSTNAME=%.12s"],"cwd":"/","noNewPrivileges":true},"root":{"path":"rootfs"},`+
			`"linux":{"cgroupsPath":"/%s/%s","seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"maskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list"],`+
			`"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"],"resources":{"devices":[{"allow":false,"access":"rwm"}]},`+
			`"namespaces":[{"type":"mount"},{"type":"network"},{"type":"uts"},{"type":"pid"},{"type":"ipc"}]}}`, id, e.parent, id)},
		{filepath.Join(e.state(id), "state.json"), fmt.Sprintf(`{"id":%q,"init_process_pid":%d,"init_process_start":%s,"cgroup_paths":%s}`, id, pid, started, made)},
	} {
		if err := os.MkdirAll(filepath.Dir(file.path), 0o711); err != nil {
			return err
		}
		if err := os.WriteFile(file.path, []byte(file.text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// forget removes the files that adopt made, after the process has ended.
func (e *fakeEngine) forget(id string) error {
	e.mu.Lock()
	delete(e.known, id)
	e.mu.Unlock()
	os.RemoveAll(e.bundle(id))
	os.RemoveAll(e.state(id))
	var last error
	for _, mount := range e.mounts {
		for range 100 { // the end of a process takes a moment
			if last = os.Remove(filepath.Join(mount, e.parent, id)); last == nil || os.IsNotExist(last) {
				last = nil
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return last
}

func (e *fakeEngine) close() {
	e.vanish()
	for _, mount := range e.mounts {
		os.Remove(filepath.Join(mount, e.parent))
	}
}
