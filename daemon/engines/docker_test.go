package engines

import (
	"context"
	"crypto/sha512"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

func docker(t *testing.T) *cli {
	t.Helper()
	return withEngine(t, engine.Docker)
}

func TestDocker(t *testing.T) {
	c := docker(t)
	store := records.New(records.Options{})
	plain := []string{"-e", "A=b", "-v", "/srv:/data:ro", "-v", "/anonymous", "-v", "launch-volume:/named", "launch-test:1"}
	t.Cleanup(func() { c.command("volume", "rm", "-f", "launch-volume").Run() })
	one := c.start(store, plain, "/bin/sleeper", "x")
	two := c.start(store, plain, "/bin/sleeper", "x")
	base := c.digest(store, one)
	if c.digest(store, two) != base {
		t.Error("two equal lines give two digests")
	}
	if again := records.New(records.Options{}); c.digest(again, mustFind(t, again, one.ID)) != base {
		t.Error("another digest after a restart")
	}
	c.declaredExactly(store, one)
	if len(powerOf(t, store, one)) != 0 {
		t.Error("a plain container has power:", powerOf(t, store, one))
	}
	dockerImage(t, c, store, one)

	seen := map[[48]byte]string{base: "nothing"}
	for name, change := range map[string]struct {
		options []string
		command []string
		power   string
	}{
		"image":       {append(slices.Clone(plain[:len(plain)-1]), "launch-test:2"), []string{"/bin/sleeper", "x"}, ""},
		"argument":    {plain, []string{"/bin/sleeper", "y"}, ""},
		"program":     {plain, []string{"/bin/other", "x"}, ""},
		"environment": {append([]string{"-e", "B=c"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"mount":       {append([]string{"-v", "/srv:/more"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"capability":  {append([]string{"--cap-add", "NET_ADMIN"}, plain...), []string{"/bin/sleeper", "x"}, "capability:CAP_NET_ADMIN"},
		"device":      {append([]string{"--device", "/dev/full:/dev/foo"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"fuse":        {append([]string{"--device", "/dev/fuse"}, plain...), []string{"/bin/sleeper", "x"}, "device:c:10:229"},
		"pid":         {append([]string{"--pid", "host"}, plain...), []string{"/bin/sleeper", "x"}, "namespace:pid"},
		"user":        {append([]string{"--user", "1234"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"seccomp":     {append([]string{"--security-opt", "seccomp=unconfined"}, plain...), []string{"/bin/sleeper", "x"}, "unconfined:seccomp"},
		"paths":       {append([]string{"--security-opt", "systempaths=unconfined"}, plain...), []string{"/bin/sleeper", "x"}, "unconfined:paths"},
		"read-only":   {append([]string{"--read-only"}, plain...), []string{"/bin/sleeper", "x"}, ""},
	} {
		r := c.start(store, change.options, change.command...)
		d := c.digest(store, r)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
		if p := powerOf(t, store, r); change.power != "" && !slices.Contains(p, change.power) || change.power == "" && len(p) != 0 {
			t.Errorf("%s has power %v, want %q", name, p, change.power)
		}
	}
}

func mustFind(t *testing.T, s *records.Store, id string) records.Record {
	t.Helper()
	all, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.ID == id && r.Err == nil {
			return r
		}
	}
	t.Fatalf("no record of %s", id)
	return records.Record{}
}

func dockerImage(t *testing.T, c *cli, store *records.Store, r records.Record) {
	t.Helper()
	got, err := New(Options{}).Image(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	inspect := func(format string) string { return c.run("image", "inspect", "--format", format, "launch-test:1") }
	if id := inspect("{{.Id}}"); got.Digest != id && got.Manifest != id {
		t.Errorf("%+v, want %s", got, id)
	}
	if got.Reference != "docker.io/library/launch-test:1" || strings.Join(got.Layers, " ") != inspect("{{join .RootFS.Layers \" \"}}") {
		t.Errorf("%+v", got)
	}
}

// --privileged changes the digest, also where this machine can't run it.
func TestDockerPrivileged(t *testing.T) {
	c := docker(t)
	store := records.New(records.Options{})
	plain := c.start(store, []string{"launch-test:1"}, "/bin/sleeper")
	r, err := c.try(store, []string{"--privileged", "launch-test:1"}, "/bin/sleeper")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(powerOf(t, store, r), "privileged") || !r.Launch.Asked.AllDevices || len(r.Launch.Asked.Devices) != 0 {
		t.Errorf("%v, %v", powerOf(t, store, r), r.Launch.Asked.Devices)
	}
	if digestOf(t, r.Launch, launch.Image{}) == digestOf(t, plain.Launch, launch.Image{}) {
		t.Error("--privileged does not change the digest")
	}
}

// A container in another container's cgroup is identified by its own record.
func TestDockerCgroupParent(t *testing.T) {
	c := docker(t)
	store := records.New(records.Options{})
	victim := c.start(store, []string{"launch-test:1"}, "/bin/sleeper")
	if strings.HasSuffix(victim.CgroupPath, ".scope") {
		t.Skip("does not apply: docker's systemd driver takes only slices as parents")
	}
	r := c.start(store, []string{"--cgroup-parent", victim.CgroupPath, "launch-test:1"}, "/bin/sleeper")
	if r.CgroupPath != victim.CgroupPath+"/"+r.ID || !slices.Contains(powerOf(t, store, r), "cgroup-parent") {
		t.Errorf("%s: %v", r.CgroupPath, powerOf(t, store, r))
	}
	c.declaredExactly(store, r)
	if got, ok, err := store.Declared(context.Background(), "", victim.CgroupPath); !ok || err != nil || got.ID != victim.ID {
		t.Errorf("%s, %v, %v", got.ID, ok, err)
	}
}

// containerd without docker: ctr, whose ids can be any name.
func TestContainerd(t *testing.T) {
	if _, err := exec.LookPath("ctr"); err != nil {
		skipUnavailable(t, err.Error())
	}
	if _, err := engine.Docker(); err != nil { // docker starts its containerd
		skipUnavailable(t, err.Error())
	}
	c := &cli{t, &engine.Engine{Name: "ctr", Client: []string{"ctr", "-a", "/run/docker/containerd/containerd.sock", "-n", "launch-test"}}}
	root := t.TempDir()
	program, err := sleeper()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "proc", "sys", "dev", "run"} {
		os.MkdirAll(filepath.Join(root, dir), 0o755)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/sleeper"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	store := records.New(records.Options{})
	var digests [][48]byte
	for _, id := range []string{"launch-ctr-a", "launch-ctr-b"} {
		c.run("run", "-d", "--rootfs", root, id, "/bin/sleeper")
		t.Cleanup(func() {
			c.command("task", "kill", "-s", "KILL", id).Run()
			for range 50 {
				if c.command("task", "rm", id).Run() == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			c.command("container", "rm", id).Run()
		})
		r := mustFind(t, store, id)
		c.declaredExactly(store, r)
		l, err := store.Measure(context.Background(), r)
		if err != nil || l.Entrypoint == nil || l.Entrypoint.SHA384 != fmt.Sprintf("%x", sha512.Sum384(program)) {
			t.Errorf("%+v, %v", l.Entrypoint, err)
		}
		if _, err := New(Options{}).Image(context.Background(), r); err == nil || r.Runtime != "containerd" {
			t.Error(r.Runtime, err)
		}
		digests = append(digests, digestOf(t, l, launch.Image{}))
	}
	if digests[0] != digests[1] {
		t.Error("two equal lines give two digests")
	}
}

// The same with engines' own volumes, which any user of an engine can make.
func TestPowerOfAVolumeByPodman(t *testing.T) { volumeOfTheHosts(t, podman(t)) }

func TestPowerOfAVolumeByDocker(t *testing.T) {
	c := docker(t)
	volumeOfTheHosts(t, c)
	r := c.start(records.New(records.Options{}), []string{"--device-cgroup-rule", "a *:* m", "launch-test:1"}, "/bin/sleeper")
	if got := powerOf(t, records.New(records.Options{}), r); !slices.Contains(got, "device:*") {
		t.Errorf("every device by a rule to make them: %v", got)
	}
}

func volumeOfTheHosts(t *testing.T, c *cli) {
	c.command("volume", "rm", "-f", "launch-of-host").Run()
	c.run("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc/ssl", "launch-of-host")
	t.Cleanup(func() { c.command("volume", "rm", "-f", "launch-of-host").Run() })
	store := records.New(records.Options{})
	r := c.start(store, []string{"-v", "launch-of-host:/v", "launch-test:1"}, "/bin/sleeper")
	for _, m := range r.Launch.Asked.Mounts {
		if m.Destination == "/v" && m.Volume != "launch-of-host" {
			t.Errorf("%+v", m)
		}
	}
}
