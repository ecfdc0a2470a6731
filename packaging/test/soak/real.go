package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

const image = "cima-soak:1"

// ownEngines are docker and podman of the soak's own, if they are installed.
func (b *boot) ownEngines() (found []*engine.Engine) {
	for _, start := range []func() (*engine.Engine, error){engine.Docker, engine.Podman} {
		e, err := start()
		if err != nil {
			b.tally.note("left out: containers of an engine: %v", err)
			if os.Getenv("CI") == "true" {
				b.tally.violate("with CI=true leaving out containers of engines is failing")
			}
			continue
		}
		found = append(found, e)
	}
	return found
}

// realContainers runs containers by real engines among the made-up ones.
func (b *boot) realContainers(ctx context.Context, rnd *rand.Rand) {
	engines := b.ownEngines()
	for _, e := range engines {
		if err := e.Import(ctx, image, engine.NewImage().File("/soak", b.self)); err != nil {
			b.tally.violate("%v", err)
			return
		}
		defer e.Command(context.Background(), "rmi", "-f", image).Run()
	}
	for n := 0; len(engines) > 0 && pause(ctx, rnd, 500*time.Millisecond, 3*time.Second); n++ {
		e := engines[n%len(engines)]
		if err := b.realContainer(ctx, rnd, e); err != nil {
			b.tally.violate("a container by %s: %v", e.Name, err)
		}
	}
}

func (b *boot) realContainer(ctx context.Context, rnd *rand.Rand, e *engine.Engine) error {
	cid := b.manager.path(fmt.Sprintf("cid%d", rnd.Uint64()))
	defer os.Remove(cid)
	args := append([]string{"run", "--rm", "-i", "--network", "none", "--cidfile", cid,
		"-v", filepath.Join(b.dir, "cima") + ":/run/cima:ro"}, e.Run...)
	p := e.Command(context.WithoutCancel(ctx), append(args, image, "/soak", "caller", "/run/cima/cima.sock")...)
	var said bytes.Buffer
	p.Stderr = &said
	c := b.newContainer("")
	if err := c.begin(p); err != nil {
		return err
	}
	defer p.Wait()
	defer c.orders.Close() // ends its process, and with it the container
	for range 600 {
		if id, err := os.ReadFile(cid); err == nil && len(id) == 64 {
			c.id = string(id)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if c.id == "" {
		p.Process.Kill()
		return errors.New("the container has no id after 12 s: " + strings.TrimSpace(said.String()))
	}
	defer b.over(c)
	b.tally.count("containers by " + e.Name)
	for range 3 + rnd.IntN(4) {
		if err := b.step(rnd, c); err != nil {
			return fmt.Errorf("the container ended: %w: %s", err, strings.TrimSpace(said.String()))
		}
	}
	return nil
}
