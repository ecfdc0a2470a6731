package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	images "github.com/cima-project/cima/packaging/test/engine"
)

const image = "cima-soak:1"

// realEngine is a container engine of this machine.
type realEngine struct {
	name    string
	command []string
	run     []string
}

// realEngines are docker and podman, where they work.
func realEngines() []realEngine {
	podman := []string{"podman"}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		podman = append(podman, "--cgroup-manager", "cgroupfs")
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		podman = append(podman, "--runtime", "runc") // crun refuses cgroup v1
	}
	var found []realEngine
	for _, e := range []realEngine{
		{"docker", []string{"docker"}, nil},
		// podman asks for limits above the hard ones where root may not raise them.
		{"podman", podman, []string{"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"}},
	} {
		if exec.Command(e.command[0], append(e.command[1:], "info")...).Run() == nil {
			found = append(found, e)
		}
	}
	return found
}

func (e realEngine) do(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, e.command[0], append(e.command[1:len(e.command):len(e.command)], args...)...)
}

// load makes an image of this program alone.
func (e realEngine) load(self string) error {
	if err := images.Import(e.do(context.Background(), "import", "-", image), self, "soak"); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	return nil
}

// realContainers runs containers by real engines among the made-up ones.
func (b *boot) realContainers(ctx context.Context, rnd *rand.Rand) {
	engines := realEngines()
	if len(engines) == 0 {
		b.tally.note("left out: containers by docker and podman, for neither works here")
		if os.Getenv("CI") == "true" {
			b.tally.violate("with CI=true leaving out containers of engines is failing")
		}
	}
	for _, e := range engines {
		if err := e.load(b.self); err != nil {
			b.tally.violate("%v", err)
			return
		}
		defer e.do(context.Background(), "rmi", "-f", image).Run()
	}
	for n := 0; len(engines) > 0 && pause(ctx, rnd, 500*time.Millisecond, 3*time.Second); n++ {
		e := engines[n%len(engines)]
		lock, err := dockerLock(ctx)
		if err != nil {
			b.tally.count("waits for engines that tests had to the end")
			return
		}
		if err := b.realContainer(ctx, rnd, e); err != nil {
			b.tally.violate("a container by %s: %v", e.name, err)
		}
		lock.Close()
	}
}

// dockerLock keeps tests away that expect no containers but their own. They may
// have it for long.
func dockerLock(ctx context.Context) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "cima-docker-test.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	taken := make(chan error, 1)
	go func() { taken <- syscall.Flock(int(lock.Fd()), syscall.LOCK_EX) }()
	select {
	case err = <-taken:
	case <-ctx.Done():
		err = ctx.Err()
		go func() {
			<-taken
			lock.Close()
		}()
		return nil, err
	}
	if err != nil {
		lock.Close()
	}
	return lock, err
}

func (b *boot) realContainer(ctx context.Context, rnd *rand.Rand, e realEngine) error {
	cid := b.manager.path(fmt.Sprintf("cid%d", rnd.Uint64()))
	defer os.Remove(cid)
	args := append([]string{"run", "--rm", "-i", "--network", "none", "--cidfile", cid,
		"-v", filepath.Join(b.dir, "cima") + ":/run/cima:ro"}, e.run...)
	p := e.do(context.WithoutCancel(ctx), append(args, image, "/soak", "caller", "/run/cima/cima.sock")...)
	var said bytes.Buffer
	p.Stderr = &said
	c := b.newContainer("")
	if err := c.begin(p); err != nil {
		return err
	}
	defer p.Wait()
	defer c.orders.Close() // its process ends, and so does it
	for range 600 {
		if id, err := os.ReadFile(cid); err == nil && len(id) == 64 {
			c.id = string(id)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if c.id == "" {
		p.Process.Kill()
		return errors.New("it has no id within 12 s: " + strings.TrimSpace(said.String()))
	}
	defer b.over(c)
	b.tally.count("containers by " + e.name)
	for range 3 + rnd.IntN(4) {
		if err := b.step(rnd, c); err != nil {
			return fmt.Errorf("it ended: %w: %s", err, strings.TrimSpace(said.String()))
		}
	}
	return nil
}
