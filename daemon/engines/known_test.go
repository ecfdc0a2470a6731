package engines

import (
	"crypto/sha512"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

// bothEngines runs a test with docker and with podman.
func bothEngines(t *testing.T, test func(c *cli, store *records.Store)) {
	t.Helper()
	for name, start := range map[string]func() (*engine.Engine, error){"docker": engine.Docker, "podman": engine.Podman} {
		t.Run(name, func(t *testing.T) { test(withEngine(t, start), records.New(records.Options{})) })
	}
}

// withVariable makes an image that has a variable of its own.
func (c *cli) withVariable() string {
	c.Helper()
	program, err := sleeper()
	if err != nil {
		c.Fatal(err)
	}
	layer, err := engine.NewImage().Text("/bin/sleeper", program).Bytes()
	if err != nil {
		c.Fatal(err)
	}
	const name = "launch-test:variable"
	if _, err := c.Do(c.Context(), string(layer), "import", "-c", "ENV OF_IMAGE=1", "-c", "ENV PATH=/bin", "-", name); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { c.command("rmi", "-f", name).Run() })
	return name
}

func mountAt(l launch.Launch, at string) (launch.Mount, bool) {
	i := slices.IndexFunc(l.Asked.Mounts, func(m launch.Mount) bool { return string(m.Destination) == at })
	if i < 0 {
		return launch.Mount{}, false
	}
	return l.Asked.Mounts[i], true
}

// The image's configuration is known at the gate, and what the image says was not asked
// for.
func TestImageConfigIsKnown(t *testing.T) {
	bothEngines(t, func(c *cli, store *records.Store) {
		image := c.withVariable()
		r := c.start(store, []string{"-e", "OWN=2", image}, "/bin/sleeper", "x")
		if got, want := strings.TrimPrefix(r.Launch.ImageConfig, "sha256:"), strings.TrimPrefix(c.run("image", "inspect", "--format", "{{.Id}}", image), "sha256:"); got != want {
			c.Errorf("image's configuration %q, want %q", got, want)
		}
		if e := r.Launch.Asked.Environment; len(e) != 1 || e[0].Name != "OWN" {
			c.Errorf("asked for: %+v", e)
		}
		if again := mustFind(c.T, records.New(records.Options{}), r.ID); again.Launch.ImageConfig != r.Launch.ImageConfig {
			c.Error("another daemon reads another image")
		}
		other := c.start(store, []string{"-e", "OF_IMAGE=3", image}, "/bin/sleeper", "x")
		if e := other.Launch.Asked.Environment; len(e) != 1 || e[0].Name != "OF_IMAGE" {
			c.Errorf("asked for: %+v", e)
		}
	})
}

// A volume without a name was made for the container alone. One that somebody named by
// 64 digits, or another container's, was not (ATTACKS D1).
func TestVolumesWithoutAName(t *testing.T) {
	bothEngines(t, func(c *cli, store *records.Store) {
		named := strings.Repeat("ab", 32)
		c.run("volume", "create", named)
		c.Cleanup(func() { c.command("volume", "rm", "-f", named).Run() })
		first := c.start(store, []string{"-v", "/data", "launch-test:1"}, "/bin/sleeper", "x")
		if m, _ := mountAt(first.Launch, "/data"); !m.Anonymous || m.Volume != "" {
			c.Errorf("-v /data: %+v", m)
		}
		second := c.start(store, []string{"-v", "/data", "launch-test:1"}, "/bin/sleeper", "x")
		if c.digest(store, first) != c.digest(store, second) {
			c.Error("two equal lines give two digests")
		}
		digits := c.start(store, []string{"-v", named + ":/data", "launch-test:1"}, "/bin/sleeper", "x")
		if m, _ := mountAt(digits.Launch, "/data"); m.Anonymous || string(m.Volume) != named {
			c.Errorf("-v %s:/data: %+v", named, m)
		}
		if c.digest(store, digits) == c.digest(store, first) {
			c.Error("a named volume has the digest of one without a name")
		}
		inherits := c.start(store, []string{"--volumes-from", first.ID, "launch-test:1"}, "/bin/sleeper", "x")
		if m, _ := mountAt(inherits.Launch, "/data"); m.Anonymous || !launch.IsID(string(m.Volume)) {
			c.Errorf("--volumes-from: %+v", m)
		}
		// It stays what it was when the container is started again.
		c.run("restart", "-t", "0", first.ID)
		again := mustFind(c.T, store, first.ID)
		if m, _ := mountAt(again.Launch, "/data"); !m.Anonymous {
			c.Errorf("after a restart: %+v", m)
		}
	})
}

// A container that has another's network has its /etc/hosts too, and nobody asked for
// that file.
func TestNetworkOfAnother(t *testing.T) {
	bothEngines(t, func(c *cli, store *records.Store) {
		var digests [2][48]byte
		for i := range digests {
			of := c.start(store, []string{"--hostname", "same", "launch-test:1"}, "/bin/sleeper", "x")
			r, err := c.startOn("container:"+of.ID, store, []string{"launch-test:1"}, "/bin/sleeper", "x")
			if err != nil {
				c.Fatal(err)
			}
			if len(r.Launch.Asked.Mounts) > 0 || r.Launch.Asked.Namespaces["network"] != "joined" {
				c.Errorf("asked for: %+v, %+v", r.Launch.Asked.Mounts, r.Launch.Asked.Namespaces)
			}
			digests[i] = c.digest(store, r)
		}
		if digests[0] != digests[1] {
			c.Error("two equal lines give two digests")
		}
		// The file alone, without the network, was asked for.
		of := c.start(store, []string{"launch-test:1"}, "/bin/sleeper", "x")
		hosts := c.run("inspect", "--format", "{{.HostsPath}}", of.ID)
		r := c.start(store, []string{"-v", hosts + ":/etc/hosts", "launch-test:1"}, "/bin/sleeper", "x")
		if m, _ := mountAt(r.Launch, "/etc/hosts"); string(m.Source) != hosts {
			c.Errorf("-v %s:/etc/hosts: %+v", hosts, m)
		}
	})
}

// The program that is measured is the one that the runtime executes: it looks along PATH
// as the container's user, who may not search every directory (ATTACKS D3).
func TestEntrypointAsTheRuntimeFindsIt(t *testing.T) {
	program, err := sleeper()
	if err != nil {
		t.Fatal(err)
	}
	bothEngines(t, func(c *cli, store *records.Store) {
		const image = "launch-test:closed"
		files := engine.NewImage().Folder("/first", 0o700).Text("/first/app", program).Text("/second/app", append(slices.Clone(program), 0)).
			Folder("/a/b", 0o755).Text("/a/app", append(slices.Clone(program), 0, 0)).Link("/work", "/a/b")
		if err := c.Import(c.Context(), image, files); err != nil {
			c.Fatal(err)
		}
		c.Cleanup(func() { c.command("rmi", "-f", image).Run() })
		path := []string{"-e", "PATH=/first:/second"}
		for name, test := range map[string]struct {
			options []string
			program string
			want    string // executed
		}{
			"root":                        {path, "app", "/first/app"},
			"another user":                {append(slices.Clone(path), "-u", "1000"), "app", "/second/app"},
			"root's capabilities dropped": {append(slices.Clone(path), "--cap-drop", "ALL"), "app", "/first/app"},
			"from a working directory":    {[]string{"-w", "/work", "-u", "1000"}, "../app", "/a/app"},
		} {
			r := c.start(store, append(test.options, image), test.program, "x")
			l, err := store.Measure(c.Context(), r)
			if err != nil || l.Entrypoint == nil {
				c.Fatalf("%s: %+v, %v", name, l.Entrypoint, err)
			}
			exe, sum := executed(c, r)
			if exe != test.want || l.Entrypoint.SHA384 != sum {
				c.Errorf("%s: it executes %s, and %+v was measured; want %s", name, exe, l.Entrypoint, test.want)
			}
		}
	})
}

// executed returns what a container's first process executes, once it does, and the
// SHA-384 of the file.
func executed(c *cli, r records.Record) (exe, sum string) {
	c.Helper()
	link := fmt.Sprintf("/proc/%d/exe", r.InitPID)
	daemontest.Eventually(c.T, "the program runs", func() bool {
		exe, _ = os.Readlink(link)
		return strings.HasSuffix(exe, "/app")
	})
	text, err := os.ReadFile(link)
	if err != nil {
		c.Fatal(err)
	}
	return exe, fmt.Sprintf("%x", sha512.Sum384(text))
}

// A volume without a name may be a part of the host, by its driver's options.
func TestVolumeByOptions(t *testing.T) {
	c, store := docker(t), records.New(records.Options{})
	r := c.start(store, []string{"--mount", "type=volume,dst=/data,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/srv", "launch-test:1"}, "/bin/sleeper", "x")
	if m, _ := mountAt(r.Launch, "/data"); m.Anonymous {
		t.Errorf("%+v", m)
	}
	c.run("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/srv", "launch-options")
	t.Cleanup(func() { c.command("volume", "rm", "-f", "launch-options").Run() })
	named := c.start(store, []string{"-v", "launch-options:/data", "launch-test:1"}, "/bin/sleeper", "x")
	if m, _ := mountAt(named.Launch, "/data"); m.Anonymous || m.Volume != "launch-options" {
		t.Errorf("%+v", m)
	}
}
