package vectors

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

// client is one language's program that checks everything that a container can
// check of itself, with an image that holds the program and its dependencies
// alone.
type client struct {
	language string
	layer    func(t *testing.T) *layer
	env      []string
	command  []string
}

var clients = []client{
	{"go", goLayer, []string{inside + "=end-to-end"}, []string{"/client"}},
	{"python", pythonLayer, []string{"PYTHONPATH=/app", "PYTHONHOME=/usr", "PYTHONDONTWRITEBYTECODE=1"}, []string{"/usr/bin/python3", "/app/end_to_end.py"}},
	{"rust", rustLayer, nil, []string{"/end_to_end"}},
}

// Every client, in an image made from scratch, in docker and podman: the event
// log replays to every register; 0, 1 and 3 are not empty; there is a report;
// and the evidence agrees with itself. Then the daemon is restarted between two
// runs in a container that keeps running.
func TestClientsInContainers(t *testing.T) {
	found := engines(t)
	s := newStage(t, granted)
	root, err := os.ReadFile(s.path("td/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		layer := c.layer(t)
		for _, e := range found {
			t.Run(c.language+" in "+e.Name, func(t *testing.T) {
				image := e.image(t, "vectors-"+c.language+":1", layer)
				run := []string{"-e", "CIMA_VECTORS_ROOT=" + string(root)}
				for _, env := range c.env {
					run = append(run, "-e", env)
				}
				t.Log(s.in(e, "", append(append(run, image), c.command...)...))
			})
		}
	}
}

func goLayer(t *testing.T) *layer { return newLayer().add(clientProgram(t), "/client") }

// muslTarget makes static programs.
const muslTarget = "x86_64-unknown-linux-musl"

// rustEnv is cargo's environment, where cargo can build.
func rustEnv(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("left out: no cargo")
	}
	if out, err := exec.Command("rustc", "--print", "target-libdir", "--target", muslTarget).Output(); err != nil || !isDir(string(bytes.TrimSpace(out))) {
		t.Skipf("left out: rustup target add %s", muslTarget)
	}
	return append(os.Environ(), "CARGO_TARGET_DIR="+rustTarget(t))
}

// rustTarget is the directory where cargo builds; it has the results of earlier
// builds for these tests.
func rustTarget(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/clients/musl")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// rustLayer is a static program.
func rustLayer(t *testing.T) *layer {
	t.Helper()
	output(t, rustEnv(t), "", "cargo", "build", "-q", "--locked", "--target", muslTarget,
		"--manifest-path", "../rust/Cargo.toml", "--example", "end_to_end")
	return newLayer().add(filepath.Join(rustTarget(t), muslTarget, "debug/examples/end_to_end"), "/end_to_end")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func pythonLayer(t *testing.T) *layer {
	return interpreter(t).add("../python/cima_client", "/app/cima_client").add("../python/examples/end_to_end.py", "/app/end_to_end.py")
}

// interpreter is the system's Python with its standard library and the
// libraries that these link, copied from this machine.
func interpreter(t *testing.T) *layer {
	t.Helper()
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip("left out: no ", python)
	}
	library := strings.TrimSpace(output(t, os.Environ(), "", python, "-c", "import os; print(os.path.dirname(os.__file__))"))
	modules, err := filepath.Glob(library + "/lib-dynload/*.so")
	if err != nil {
		t.Fatal(err)
	}
	l := newLayer().add(python, python).add(library, library)
	linked := map[string]bool{}
	for line := range strings.Lines(output(t, os.Environ(), "", append([]string{"ldd", python}, modules...)...)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") && !strings.HasSuffix(word, ":") && !linked[word] {
				linked[word] = true
				l.add(word, word)
				// glibc loads it when a thread is ended; nothing links it
				if unwinder := filepath.Join(filepath.Dir(word), "libgcc_s.so.1"); !linked[unwinder] {
					if _, err := os.Stat(unwinder); err == nil {
						linked[unwinder] = true
						l.add(unwinder, unwinder)
					}
				}
			}
		}
	}
	return l
}

func containerID(t *testing.T, printed string) string {
	t.Helper()
	var said struct{ Container rpc.ContainerIdentity }
	if err := json.Unmarshal([]byte(printed), &said); err != nil {
		t.Fatal(err)
	}
	return said.Container.ID
}

// A container that keeps running makes requests before and after a restart of
// the daemon.
func TestContainerOutlivesDaemon(t *testing.T) {
	found := engines(t)
	s := newStage(t, granted)
	root, err := os.ReadFile(s.path("td/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	layer := goLayer(t)
	for _, e := range found {
		t.Run(e.Name, func(t *testing.T) {
			image := e.image(t, "vectors-stays:1", layer)
			create := append([]string{"create", "-i", "--network", "none", "-v", filepath.Dir(s.socket()) + ":/run/cima:ro"}, e.Run...)
			create = append(create, "-e", inside+"=relay", "-e", "CIMA_VECTORS_ROOT="+string(root), image, "/client")
			id := strings.TrimSpace(e.do(t, "", create...))
			t.Cleanup(func() { exec.Command(e.Client[0], append(e.Client[1:], "rm", "-f", id)...).Run() })
			// The first process waits for a line that never comes.
			hold := exec.Command(e.Client[0], append(e.Client[1:], "start", "-a", "-i", id)...)
			in, err := hold.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := hold.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { in.Close(); hold.Wait() }()
			running := append(e.Client[:len(e.Client):len(e.Client)], "exec", id, "/no such program")
			for range 100 {
				if out, _ := exec.Command(running[0], running[1:]...).CombinedOutput(); !bytes.Contains(out, []byte("not running")) &&
					!bytes.Contains(out, []byte("on running containers")) { // the messages of docker and of podman
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			ask := []string{"exec", "-e", inside + "=end-to-end", id, "/client"}
			before := e.do(t, "", ask...)
			s.restart()
			after := e.do(t, "", ask...)
			if id := containerID(t, before); id == "" || id != containerID(t, after) {
				t.Errorf("before %s\nafter %s", before, after)
			}
		})
	}
}
