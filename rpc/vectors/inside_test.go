package vectors

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inContainer is a client's programs in one image: the one that makes every
// call, and the tests against the vectors.
type inContainer struct {
	language  string
	layer     func(t *testing.T) *layer
	env       []string
	everyCall []string
	vectors   []string
	from05    []string // a program for CIMA 0.5
}

var insiders = []inContainer{
	{"go", func(t *testing.T) *layer { return withVectors(newLayer().add(clientProgram(t), "/client")) },
		[]string{inside + "=every-call"},
		[]string{"/client"},
		[]string{"/client", "-test.run", "TestClientReadsExchanges|TestBundles"}, nil},
	{"python", func(t *testing.T) *layer {
		return withVectors(interpreter(t).add("../python/cima_client", "/rpc/python/cima_client").add("../python/tests", "/rpc/python/tests").
			add("../python/examples", "/rpc/python/examples"))
	},
		[]string{"PYTHONPATH=/rpc/python:/rpc/python/tests", "PYTHONHOME=/usr", "PYTHONDONTWRITEBYTECODE=1"},
		[]string{"/usr/bin/python3", "/rpc/python/examples/every_call.py"},
		[]string{"/usr/bin/python3", "-m", "unittest", "test_client", "test_shared", "test_vectors"},
		[]string{"/usr/bin/python3", "/rpc/python/examples/from_05.py"}},
	{"rust", func(t *testing.T) *layer {
		l, built := newLayer(), rustPrograms(t)
		for name, path := range built {
			l.add(path, "/"+name)
		}
		return withVectors(l)
	},
		[]string{"CIMA_ROOT=/"},
		[]string{"/every_call"},
		[]string{"/vectors"}, nil},
}

func withVectors(l *layer) *layer {
	for _, name := range []string{"exchanges.json", "bundles.json", "launches.json", "quotes.json", "texts.json", "bundles"} {
		l.add(name, "/rpc/vectors/"+name)
	}
	return l
}

// rustPrograms builds the programs for containers, for the musl target.
func rustPrograms(t *testing.T) map[string]string {
	t.Helper()
	env := rustEnv(t)
	built := map[string]string{}
	for _, what := range [][]string{{"build", "--example", "every_call"}, {"test", "--no-run", "--test", "vectors"}} {
		command := append([]string{"cargo", what[0], "--locked", "--message-format", "json", "--target", muslTarget,
			"--features", "tokio", "--manifest-path", "../rust/Cargo.toml"}, what[1:]...)
		for line := range strings.Lines(output(t, env, "", command...)) {
			var message struct {
				Executable string
				Target     struct{ Name string }
			}
			if json.Unmarshal([]byte(line), &message) == nil && message.Executable != "" {
				built[message.Target.Name] = message.Executable
			}
		}
	}
	if built["every_call"] == "" || built["vectors"] == "" {
		t.Fatalf("cargo built only %v", built)
	}
	return built
}

// Each client in a docker and a podman container against cimad-sim: all calls
// with all errors (invalid, denied, rate limited, too large), a restart of the
// daemon with another policy, and all vectors.
func TestEveryCallInContainers(t *testing.T) {
	found := engines(t)
	for _, c := range insiders {
		layer := c.layer(t)
		for _, e := range found {
			t.Run(c.language+" in "+e.Name, func(t *testing.T) {
				s := newStage(t, granted)
				image := e.image(t, "vectors-inside-"+c.language+":1", layer)
				root, err := os.ReadFile(s.path("td/root.pem"))
				if err != nil {
					t.Fatal(err)
				}
				run := []string{"--tmpfs", "/tmp", "-w", "/rpc/vectors", "-e", "CIMA_VECTORS_ROOT=" + string(root)}
				var env []string
				for _, of := range c.env {
					env = append(env, "-e", of)
				}
				s.overARestart(e, append(append(append(run, env...), image), c.everyCall...))
				if c.language == "go" {
					env = nil // then it runs as a test again
				}
				if c.from05 != nil {
					s.in(e, "", append(append(append(run, env...), image), c.from05...)...)
				}
				t.Logf("%.300s", s.in(e, "", append(append(append(run, env...), image), c.vectors...)...))
			})
		}
	}
}

// overARestart runs a container that asks for a restart of the daemon; the new
// daemon grants nothing and allows few quotes.
func (s *stage) overARestart(e own, args []string) {
	s.t.Helper()
	run := append([]string{"run", "--rm", "-i", "--network", "none", "-v", filepath.Dir(s.socket()) + ":/run/cima:ro"}, e.Run...)
	run = append(append(e.Client[:len(e.Client):len(e.Client)], run...), args...)
	c := exec.CommandContext(s.t.Context(), run[0], run[1:]...)
	var errText bytes.Buffer
	c.Stderr = &errText
	in, err := c.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "restart" {
		c.Wait()
		s.t.Fatalf("printed %q, must be restart: %s", lines.Text(), &errText)
	}
	stop(s.daemon)
	os.Remove(s.path("run/cima-admin/admin.sock"))
	in.Write([]byte("\n"))
	time.Sleep(300 * time.Millisecond) // so that the program meets a time without a daemon
	s.config = "[limits]\nquotes_per_minute = 1\nquotes_burst = 2\n"
	s.start()
	said := ""
	for lines.Scan() {
		said += lines.Text()
	}
	in.Close()
	if err := c.Wait(); err != nil || said != "ok" {
		s.t.Fatalf("ended with %q: %v: %s", said, err, &errText)
	}
}
