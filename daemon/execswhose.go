package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/peer"
)

// maxTraits bounds what is remembered of a container's processes: they can make
// cgroups and pid namespaces of their own.
const maxTraits = 64

// whose names the container of a held process, whose launch is logged by then;
// nil where it is none that is watched. What was found once holds for processes
// with the same traits that execute from the container's own root file system.
func (x *execs) whose(ctx context.Context, h *gate.HeldExec) (*watchedRoot, error) {
	own := x.on(h.Device())
	traits, err := x.g.d.peers.TraitsOf(h.PID, h.PIDFD)
	if own != nil && err == nil && own.has(traits) {
		return own, nil
	}
	c, err := x.g.d.peers.IdentifyProcess(ctx, h.PID, h.PIDFD)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	defer c.Close()
	if c.Container == nil {
		return nil, nil
	}
	w := x.of(ownerName(*c.Container, c.CgroupOwner))
	if w == nil || w.device == 0 {
		return nil, nil
	}
	if err := x.launched(ctx, w, c); err != nil {
		return nil, err
	}
	if w == own {
		w.remember(traits)
	}
	return w, nil
}

func (w *watchedRoot) has(t peer.Traits) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.traits[t]
}

func (w *watchedRoot) remember(t peer.Traits) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.traits) >= maxTraits {
		clear(w.traits)
	}
	w.traits[t] = true
}

func (x *execs) of(owner string) *watchedRoot {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.watched[owner]
}

// on is the container whose root file system this device is, nil where none is
// watched.
func (x *execs) on(device uint64) *watchedRoot {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.devices[device]; w != nil && x.watched[w.owner] == w {
		return w
	}
	return nil
}

// launched waits until the launch of the process's instance is logged, for an
// event before it would be another's. It must not wait for an image: the
// engine may wait for this exec.
func (x *execs) launched(ctx context.Context, w *watchedRoot, c *peer.Caller) error {
	if w.settled.Load() == c.Instance {
		return nil
	}
	d := x.g.d
	i := d.instances.use(*c.Container, c.Instance, c.CgroupOwner)
	defer d.instances.release(i)
	for {
		rec, err := d.record(ctx, i)
		if err != nil {
			return err
		}
		s, err := d.ledger.Snapshot(i.owner)
		if err != nil {
			return err
		}
		if x.g.same(s.Owner.Instance, rec, i) {
			w.mu.Lock()
			w.instance = s.Owner.Instance
			w.mu.Unlock()
			w.settled.Store(i.inode)
			return nil
		}
		if i.measuring.try() { // else somebody measures it
			err := d.logLaunch(ctx, i, rec, c.Check)
			i.measuring.give()
			if err != nil {
				return err
			}
			continue
		}
		pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return gate.ErrDeadline
		}
	}
}
