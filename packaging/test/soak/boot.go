package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/rpc"
)

// boot is one boot of the simulated TD. At first the daemon keeps running while
// everything around it fails, and it must leak nothing. Then the daemon is
// killed and upgraded, too.
type boot struct {
	plan
	number int
	dir    string
	self   string // this program, which containers run
	tally  *tally
	random *rand.Rand

	manager *manager
	engine  *fakeEngine
	td      *sim.TD

	mu    sync.Mutex
	ended []*container // all containers of this boot that have ended
}

// steadyShare is the part of a boot in which the daemon isn't killed.
const steadyShare = 0.6

func (b *boot) run(ctx context.Context, d time.Duration) (err error) {
	if b.self, err = filepath.Abs("/proc/self/exe"); err == nil {
		b.self, err = os.Readlink(b.self)
	}
	if err != nil {
		return err
	}
	if b.manager, err = newManager(b.dir, b.bin, b.tally); err != nil {
		return err
	}
	defer b.manager.close()
	if b.engine, err = newFakeEngine(b.manager); err != nil {
		return err
	}
	defer b.engine.close()
	if b.td, err = sim.Dial(b.manager.path("td/td.sock")); err != nil {
		return err
	}
	begin := b.manager.start
	if b.old != "" {
		begin = func() error { return b.beginEarlier(ctx) }
	}
	if err := begin(); err != nil {
		return err
	}
	b.tally.count("boots")
	if err := b.recovers(ctx); err != nil {
		return err
	}
	before, err := b.resources(ctx)
	if err != nil {
		return err
	}
	steady := time.Duration(float64(d) * steadyShare)
	b.phase(ctx, "steady", steady, b.breakHardware, b.breakEngine, b.vexDaemon)
	b.calm()
	if err := b.recovers(ctx); err != nil {
		return err
	}
	b.leaks(ctx, before)
	b.phase(ctx, "storm", d-steady, b.breakHardware, b.breakEngine, b.breakDaemon)
	b.calm()
	if err := b.recovers(ctx); err != nil {
		return err
	}
	return b.audit(ctx)
}

// phase starts and ends containers for a while, and makes things fail.
func (b *boot) phase(ctx context.Context, name string, d time.Duration, troubles ...func(context.Context, *rand.Rand)) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	say("boot %d, %s for %v: %s", b.number, name, d.Round(time.Second), b.tally.progress())
	var all sync.WaitGroup
	work := func(f func(context.Context, *rand.Rand)) {
		rnd := rand.New(rand.NewPCG(b.random.Uint64(), b.random.Uint64()))
		all.Go(func() { f(ctx, rnd) })
	}
	for range b.workers {
		work(b.live)
	}
	if b.engines {
		work(b.realContainers)
	}
	for _, t := range troubles {
		work(t)
	}
	all.Go(func() {
		for tick := time.NewTicker(15 * time.Second); ; {
			select {
			case <-tick.C:
				say("boot %d, %s: %s", b.number, name, b.tally.progress())
			case <-ctx.Done():
				tick.Stop()
				return
			}
			if b.tally.violations() > maxViolations {
				cancel()
			}
		}
	})
	all.Wait()
}

// live starts containers, one after the other.
func (b *boot) live(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		c := b.newContainer(fmt.Sprintf("%016x%016x%016x%016x", rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()))
		for again := true; again; again = ctx.Err() == nil && rnd.IntN(6) == 0 {
			if err := c.start(); err != nil {
				b.tally.violate("a container could not be made: %v", err)
				return
			}
			b.tally.count("containers")
			b.life(ctx, rnd, c)
			if err := c.stop(); err != nil {
				b.tally.violate("what was made of a container can't be removed: %v", err)
			}
		}
		b.over(c)
	}
}

func (b *boot) over(c *container) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = append(b.ended, c)
}

// life is what a container does until it ends, or is killed at any moment.
func (b *boot) life(ctx context.Context, rnd *rand.Rand, c *container) {
	if rnd.IntN(8) == 0 {
		t := time.AfterFunc(time.Duration(rnd.IntN(300))*time.Millisecond, func() { c.process.Process.Kill() })
		defer t.Stop()
		b.tally.count("containers killed at work")
	}
	for range 2 + rnd.IntN(7) {
		if ctx.Err() != nil {
			return
		}
		if b.step(rnd, c) != nil {
			return // it was killed
		}
	}
}

func (b *boot) step(rnd *rand.Rand, c *container) error {
	switch n := rnd.IntN(20); {
	case n < 8:
		return c.extend()
	case n < 11:
		return c.evidence(rnd.IntN(2) == 0)
	case n < 13:
		return c.registers()
	case n < 15:
		return c.report(rnd.IntN(2) == 0)
	case n < 18:
		return c.whoAmI()
	}
	kinds := []string{"flood", "slow", "half open", "garbage", "deaf", "many", "connects"}
	_, err := c.call(order{Do: kinds[rnd.IntN(len(kinds))]})
	return err
}

// calm repairs everything that was broken: from here on everything must work.
func (b *boot) calm() {
	b.td.Inject(context.Background())
	b.engine.slow.Store(0)
	b.engine.broken.Store(false)
}

// recovers checks that a new container gets its evidence soon.
func (b *boot) recovers(ctx context.Context) error {
	c := b.newContainer(fmt.Sprintf("%064x", b.random.Uint64()|1))
	if err := c.start(); err != nil {
		return err
	}
	defer b.over(c)
	defer c.stop()
	b.tally.count("containers")
	const soon = 20 * time.Second
	begin := time.Now()
	for before := b.tally.of("evidences verified"); b.tally.of("evidences verified") == before; {
		if err := c.evidence(false); err != nil {
			return fmt.Errorf("a container that only asks for evidence ended: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begin) > soon {
			return fmt.Errorf("no evidence within %v, although nothing fails any more", soon)
		}
	}
	return c.extend()
}

func (b *boot) admin(ctx context.Context) (*rpc.Client, error) {
	return rpc.Dialer{Path: b.manager.path("admin.sock"), Wait: true}.Dial(ctx)
}
