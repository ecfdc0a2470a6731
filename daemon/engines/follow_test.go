package engines

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// followed runs a container and returns what its engine reported of it.
func (c *cli) followed(t *testing.T, engine Engine) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reported := make(chan Event, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		New(Options{Engines: []Engine{engine}}).Follow(ctx, func(h Event) { reported <- h })
	}()
	time.Sleep(time.Second) // what happens before Follow is called is reported, too: the client asks from then on
	file := filepath.Join(t.TempDir(), "cid")
	if out, err := c.command("run", "--rm", "--cidfile", file, "--network", "none", "launch-test:1", "/bin/nothing-there").CombinedOutput(); err == nil {
		t.Fatalf("it runs: %s", out)
	}
	os.Remove(file)
	out, err := c.command("run", "-d", "--rm", "--cidfile", file, "--network", "none", "launch-test:1", "/bin/sleeper", "x").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	id, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c.command("rm", "-f", string(id)).Run()
	var all []string
	for end := time.After(time.Minute); len(all) < 2; {
		select {
		case h := <-reported:
			if h.ID == string(id) {
				all = append(all, h.Runtime+" "+h.Action)
			}
		case <-end:
			t.Fatalf("reported only %v", all)
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it follows though its context ended")
	}
	return strings.Join(all, ", ")
}

func TestFollowDocker(t *testing.T) {
	c := docker(t)
	if got := c.followed(t, Engine{"docker", "/run/docker.sock"}); got != "docker start, docker die" {
		t.Errorf("reported: %s", got)
	}
}

func TestFollowPodman(t *testing.T) {
	c := podman(t)
	dir, err := os.MkdirTemp("/run", "cima-follow")
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "podman.sock")
	service := c.command("system", "service", "--time=0", "unix://"+socket)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := c.followed(t, Engine{"podman", socket}); got != "podman start, podman die" {
		t.Errorf("reported: %s", got)
	}
}

// A listening socket is found by its path, so that one that systemd holds can
// be reported.
func TestListening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if got := listening(path); got != "" {
		t.Errorf("without a listener: %s", got)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if got := "socket:[" + listening(path) + "]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if asleep(Engine{"docker", path}) {
		t.Error("a socket of our own is accepted as systemd's")
	}
}
