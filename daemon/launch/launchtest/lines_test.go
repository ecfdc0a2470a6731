package launchtest_test

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

// The engines run in namespaces of their own. Without any, their tests are left out.
func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "launchtest:", err)
	}
	os.Exit(m.Run())
}

// lines are options that docker run and podman run take alike, and do the same by.
var lines = []string{
	"", "-e A=b -e LD_PRELOAD=/x -e PATH=/x:/bin", "-u app", "-u 1000:1001 --group-add 44", "--read-only", "--tmpfs /t:size=1m",
	"-v /srv/data:/data:ro -v vol:/vol -v /anonymous", "--cap-drop ALL --cap-add NET_BIND_SERVICE", "--security-opt no-new-privileges",
	"--security-opt seccomp=unconfined", "--device /dev/fuse", "--sysctl net.ipv4.ip_forward=1 --hostname h", "--network container:other",
	"--ipc host --pid host --uts host", "--memory 64m --cpus 1 --pids-limit 5 --shm-size 1m -t",
}

// more are further ones, for CIMA_LINES=all.
var more = []string{
	"--label a=b", "-e A=b", "-e PATH=/x:/bin", "-e LD_PRELOAD=/x", "-u 1000", "-u 1000:1001", "--group-add 44", "--tmpfs /t", "-v /srv/data:/data",
	"-v /srv/data:/data:ro", "-v vol:/data", "-v vol:/data:ro", "-v /anonymous", "--mount type=bind,src=/srv/data,dst=/d,readonly",
	"--mount type=volume,src=vol,dst=/v", "--mount type=tmpfs,dst=/t", "--cap-add NET_ADMIN", "--cap-drop ALL", "--cap-drop CHOWN",
	"--device /dev/null:/dev/x:r", "--device-cgroup-rule c~7:*~r", "--sysctl net.ipv4.ip_forward=1", "--hostname h", "--network host", "--pid host",
	"--pid container:other", "--ipc host", "--ipc private", "--ipc container:other", "--uts host", "--cgroupns private", "--cgroupns host",
	"--userns host", "--memory 64m", "--cpus 1", "--pids-limit 5", "--shm-size 1m", "--entrypoint /bin/other", "-t", "-i", "-t -e TERM=vt100",
	"--oom-score-adj 100", "--stop-signal TERM", "--add-host a:1.2.3.4", "--log-driver none", "--restart no", "--cgroup-parent /cima-lines",
	"-e HOME=/evil", "--rm", "--blkio-weight 100", "--cpuset-cpus 0", "--volumes-from other", "--group-add 44 -u app",
}

// cli is an engine with an image and a container named other.
type cli struct {
	*testing.T
	*engine.Engine
	image *launch.ImageConfig
}

// program is a static program for the image, built once.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "lines-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-o", dir+"/sleeper", "../../engines/testdata/sleeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(dir + "/sleeper")
})

func withEngine(t *testing.T, start func() (*engine.Engine, error)) *cli {
	t.Helper()
	e, err := start()
	if err != nil {
		launchtest.SkipUnavailable(t, err.Error())
	}
	sleeper, err := program()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := engine.NewImage().Text("/bin/sleeper", sleeper).Text("/bin/other", sleeper).
		Text("/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234:app:/home/app:/bin/sh\n")).
		Text("/etc/group", []byte("root:x:0:\napp:x:1234:\nwheel:x:10:root,app\n")).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	c := &cli{T: t, Engine: e}
	if _, err := c.Do(t.Context(), string(layer), "import", "--change", "ENV OWN=image", "-", "lines:1"); err != nil {
		t.Fatal(err)
	}
	c.image = c.config()
	c.run("run", "-d", "--name", "other", "--network", "none", "--ipc", "shareable", "lines:1", "/bin/sleeper")
	t.Cleanup(func() { c.Command(context.Background(), "rm", "-f", "-v", "other").Run() })
	return c
}

func (c *cli) run(args ...string) string {
	c.Helper()
	out, err := c.Do(context.Background(), "", args...)
	if err != nil {
		c.Fatal(err)
	}
	fields := strings.Fields(out)
	if len(fields) == 0 {
		return ""
	}
	return fields[len(fields)-1]
}

// config is the image's configuration as it lies in the engine's storage.
func (c *cli) config() *launch.ImageConfig {
	c.Helper()
	id := strings.TrimPrefix(c.run("image", "inspect", "--format", "{{.Id}}", "lines:1"), "sha256:")
	for _, pattern := range []string{"/var/lib/docker/image/*/imagedb/content/sha256/" + id, "/var/lib/containers/storage/*-images/" + id + "/=*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			c.Fatal(err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				c.Fatal(err)
			}
			if i, err := launch.ParseImageConfig(raw); err == nil && i.Digest == "sha256:"+id {
				return i
			}
		}
	}
	c.Fatalf("no file of %s has the configuration %s", c.Name, id)
	return nil
}

// launch is that of a line.
func (c *cli) launch(line string) launch.Launch {
	c.Helper()
	args := []string{"run", "-d"}
	if !strings.Contains(line, "--network") {
		args = append(args, "--network", "none")
	}
	for _, word := range strings.Fields(line) {
		args = append(args, strings.ReplaceAll(word, "~", " "))
	}
	id := c.run(append(args, "lines:1", "/bin/sleeper")...)
	defer c.Command(context.Background(), "rm", "-f", "-v", id).Run()
	all, err := records.New(records.Options{}).List(context.Background())
	if err != nil {
		c.Fatal(err)
	}
	for _, r := range all {
		if r.ID != id || r.Err != nil {
			continue
		}
		if want := c.image.Digest; r.Launch.ImageConfig != want {
			c.Errorf("%s %s: image_config %q, want %s", c.Name, line, r.Launch.ImageConfig, want)
		}
		return r.Launch
	}
	c.Fatalf("%s %s: no record of %s", c.Name, line, id)
	return launch.Launch{}
}

// Equal lines give equal launches: run again both digests, and by the other engine the
// same asked.
func TestEqualLines(t *testing.T) {
	docker, podman := withEngine(t, engine.Docker), withEngine(t, engine.Podman)
	if err := os.MkdirAll("/srv/data", 0o755); err != nil {
		t.Fatal(err)
	}
	all := lines
	if os.Getenv("CIMA_LINES") == "all" {
		all = slices.Concat(lines, more)
	}
	pairs := 0
	seen := map[string]string{}
	for _, line := range all {
		var asked []string
		for _, c := range []*cli{docker, podman} {
			one, two := c.launch(line), c.launch(line)
			if diff := cmp.Diff(text(t, one), text(t, two)); diff != "" {
				t.Errorf("%s run %s: %s", c.Name, line, diff)
			}
			pairs++
			asked = append(asked, text(t, one.Asked))
			if len(one.Asked.Unknown) > 0 {
				t.Errorf("%s run %s: unknown %v", c.Name, line, one.Asked.Unknown)
			}
		}
		if diff := cmp.Diff(asked[0], asked[1]); diff != "" {
			t.Errorf("docker and podman run %s: %s", line, diff)
		}
		if other, ok := seen[asked[0]]; ok && slices.Contains(lines, line) {
			t.Errorf("%q and %q ask for the same", line, other)
		}
		seen[asked[0]] = line
	}
	t.Logf("%d pairs of equal lines, by two engines", pairs)
}

// Two containers that differ have two launch digests: a volume that looks anonymous, a
// variable's value that steers what runs, another secret under one name, another
// container's file in the place of an engine's.
func TestLinesThatDiffer(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for _, start := range []func() (*engine.Engine, error){engine.Docker, engine.Podman} {
		c := withEngine(t, start)
		c.run("volume", "create", hex) // one that is new has nothing in it, as an anonymous one
		other := c.run("inspect", "--format", "{{.Id}}", "other")
		pairs := [][2]string{
			{"-v /data", "-v " + hex + ":/data"},
			{"-e PATH=/bin", "-e PATH=/evil"},
			{"-e LD_PRELOAD=/a", "-e LD_PRELOAD=/b"},
			{"-e PYTHONPATH=/a", "-e PYTHONPATH=/b"},
			{"", "-e OWN=changed"},
		}
		if c.Name == "docker" {
			pairs = append(pairs, [2]string{"", "-v /var/lib/docker/containers/" + other + "/hosts:/etc/hosts"})
			pairs = append(pairs, [2]string{"", "-v /var/lib/docker/containers/" + other + "/hostconfig.json:/etc/hosts"})
			pairs = append(pairs, [2]string{"-e OWN=image", "-e OWN"}) // taken away
		} else {
			for _, name := range []string{"s1", "s2"} {
				if _, err := c.Do(t.Context(), "secret", "secret", "create", name, "-"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Command(context.Background(), "secret", "rm", name).Run() })
			}
			userdata := "/run/containers/storage/overlay-containers/" + other + "/userdata"
			pairs = append(pairs, [2]string{"--secret s1,target=k", "--secret s2,target=k"})
			pairs = append(pairs, [2]string{"", "-v " + userdata + "/hosts:/etc/hosts"})
			pairs = append(pairs, [2]string{"-e OWN=image", "--unsetenv OWN"})
		}
		for _, pair := range pairs {
			var digests [2][48]byte
			for i, line := range pair {
				var err error
				if digests[i], err = launch.Digest(c.launch(line), launch.Image{}); err != nil {
					t.Fatal(err)
				}
			}
			if digests[0] == digests[1] {
				t.Errorf("%s: %q and %q have one launch digest", c.Name, pair[0], pair[1])
			}
		}
		c.Command(context.Background(), "volume", "rm", "-f", hex).Run()
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
