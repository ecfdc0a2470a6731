package engines

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

func podman(t *testing.T) *cli {
	t.Helper()
	return withEngine(t, engine.Podman)
}

func TestPodman(t *testing.T) {
	c := podman(t)
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
	if one.Runtime != "podman" {
		t.Error(one.Runtime)
	}
	c.declaredExactly(store, one)
	if len(powerOf(t, store, one)) != 0 {
		t.Error("a plain container has power:", powerOf(t, store, one))
	}
	podmanImage(t, c, store, one)

	// A stopped container keeps its record, without a first process; started
	// again it has the same digest.
	c.run("stop", "-t", "0", one.ID)
	if r := mustFind(t, store, one.ID); r.InitPID != 0 {
		t.Error("a stopped container has a first process:", r.InitPID)
	}
	c.run("start", one.ID)
	restarted := mustFind(t, store, one.ID)
	if c.digest(store, restarted) != base || restarted.Stamp == one.Stamp {
		t.Error("another digest, or the old writing, after podman start")
	}

	seen := map[[48]byte]string{base: "nothing"}
	for name, change := range map[string]struct {
		options []string
		command []string
		power   string
	}{
		"image":       {append(slices.Clone(plain[:len(plain)-1]), "launch-test:2"), []string{"/bin/sleeper", "x"}, ""},
		"argument":    {plain, []string{"/bin/sleeper", "y"}, ""},
		"environment": {append([]string{"-e", "B=c"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"mount":       {append([]string{"-v", "/srv:/more"}, plain...), []string{"/bin/sleeper", "x"}, ""},
		"capability":  {append([]string{"--cap-add", "NET_ADMIN"}, plain...), []string{"/bin/sleeper", "x"}, "capability:CAP_NET_ADMIN"},
		"device":      {append([]string{"--device", "/dev/fuse"}, plain...), []string{"/bin/sleeper", "x"}, "device:c:10:229"},
		"privileged":  {append([]string{"--privileged"}, plain...), []string{"/bin/sleeper", "x"}, "device:*"},
		"pid":         {append([]string{"--pid", "host"}, plain...), []string{"/bin/sleeper", "x"}, "namespace:pid"},
		"label":       {append([]string{"--security-opt", "label=disable"}, plain...), []string{"/bin/sleeper", "x"}, "unconfined:selinux"},
	} {
		r := c.start(store, change.options, change.command...)
		d := c.digest(store, r)
		if other, ok := seen[d]; ok && name != "label" {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
		if p := powerOf(t, store, r); change.power != "" && !slices.Contains(p, change.power) || change.power == "" && len(p) != 0 {
			t.Errorf("%s has power %v, want %q", name, p, change.power)
		}
	}
}

func podmanImage(t *testing.T, c *cli, store *records.Store, r records.Record) {
	t.Helper()
	got, err := New(Options{}).Image(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	inspect := func(format string) string { return c.run("image", "inspect", "--format", format, "launch-test:1") }
	if got.Digest != "sha256:"+inspect("{{.Id}}") || got.Reference != "localhost/launch-test:1" {
		t.Errorf("%+v", got)
	}
	if want := strings.Trim(inspect("{{.RootFS.Layers}}"), "[]"); strings.Join(got.Layers, " ") != want {
		t.Errorf("%v, want %s", got.Layers, want)
	}
}

// A pod's id looks like docker's, and is above the container's in the path; it
// is no container and no power.
func TestPodmanPod(t *testing.T) {
	c := podman(t)
	store := records.New(records.Options{})
	var digests [][48]byte
	for _, name := range []string{"launch-pod-a", "launch-pod-b"} {
		c.run("pod", "create", "--name", name, "--network", "none", "--share", "ipc,uts", "--infra-image", "localhost/launch-test:1", "--infra-command", "/bin/sleeper")
		t.Cleanup(func() { c.command("pod", "rm", "-f", "-t", "0", name).Run() })
		lines := strings.Fields(c.run("run", "-d", "--pod", name, "launch-test:1", "/bin/sleeper", "x"))
		r := mustFind(t, store, lines[len(lines)-1])
		c.declaredExactly(store, r)
		if len(powerOf(t, store, r)) != 0 {
			t.Error(powerOf(t, store, r))
		}
		if r.Launch.Asked.Namespaces["ipc"] != "joined" || r.Launch.Asked.Namespaces["network"] != "" {
			t.Error(r.Launch.Asked.Namespaces)
		}
		digests = append(digests, c.digest(store, r))
	}
	if digests[0] != digests[1] {
		t.Error("two equal pods give two digests")
	}
}
