package execs

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/peer"
)

// maxTraits bounds what is remembered of a container's processes: they can make
// cgroups and pid namespaces of their own.
const maxTraits = 64

// ownerOf returns the container of a held process, whose launch is logged by then;
// nil if the process is in no container that is watched. What was found once holds
// for processes with the same traits that execute from the container's own root file
// system.
func (x *Manager) ownerOf(ctx context.Context, h *gate.HeldExec) (*watchedRoot, error) {
	own := x.on(h.Device())
	traits, err := x.Peers.TraitsOf(h.PID, h.PIDFD)
	if own != nil && err == nil && own.has(traits) {
		return own, nil
	}
	c, err := x.Peers.IdentifyProcess(ctx, h.PID, h.PIDFD)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	defer c.Close()
	if c.Container == nil {
		return nil, nil
	}
	w := x.of(c.Container.Owner(c.CgroupOwner))
	if w == nil || w.device == 0 {
		return nil, nil
	}
	if err := x.ensureLaunched(ctx, w, c); err != nil {
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

// ensureLaunched waits until the launch of the process's instance is logged: an event
// before it would be of another instance.
func (x *Manager) ensureLaunched(ctx context.Context, w *watchedRoot, c *peer.Caller) error {
	if w.cgroupInode.Load() == c.CgroupInode {
		return nil
	}
	instance, err := x.Instances.EnsureLaunched(ctx, c)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.instance = instance
	w.mu.Unlock()
	w.cgroupInode.Store(c.CgroupInode)
	return nil
}
