package containers

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// logged returns the facts of an instance. It logs the launch and the image first
// where they are not logged yet.
func (m *Manager) logged(ctx context.Context, i *Instance, checkSame func(context.Context) error) (*Facts, error) {
	if f := i.facts.Load(); f != nil {
		return f, nil
	}
	if err := m.lock(ctx, i); err != nil {
		return nil, err
	}
	defer i.measuring.Release(1)
	if f := i.facts.Load(); f != nil {
		return f, nil
	}
	rec, err := m.record(ctx, i)
	if err != nil {
		return nil, err
	}
	if m.isPending(i, rec) {
		return nil, rpc.NotReady(imageRetry, "the container is made and not started: ask again")
	}
	l, img, err := m.readBack(i, rec)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if err := m.logLaunch(ctx, i, rec, checkSame); err != nil {
			return nil, errors.Join(err, announceUnlogged(ctx, m, i, rec, err))
		}
	}
	at, err := m.Ledger.Snapshot(i.Owner)
	if err != nil {
		return nil, err
	}
	instance := at.Owner.Instance
	mine, gated := m.isLaunchOf(instance, rec, i)
	if !mine {
		return nil, ledger.ErrReplaced
	}
	if !gated {
		if isUnsettled(rec, &i.unsettled) {
			return nil, rpc.NotReady(imageRetry, "the container is being started, or could not be: ask again")
		}
		if err := m.announceUnseen(ctx, i.Owner, rec); err != nil {
			return nil, err
		}
	}
	if img == nil {
		if err := m.logImage(ctx, i, rec, instance); err != nil {
			return nil, err
		}
	}
	if l == nil || img == nil {
		if l, img, err = m.readBack(i, rec); err != nil {
			return nil, err
		}
	}
	f, err := newFacts(l, img)
	if err != nil {
		return nil, err
	}
	f.Instance, f.Start = instance, logs.StartObserved
	if gated {
		f.Start = logs.StartGated
	}
	if f.Power, err = m.powerOf(ctx, i, rec, instance, gated); err != nil {
		return nil, err
	}
	i.facts.Store(f)
	m.instances.watch(i)
	return f, nil
}

// readBack returns what the log holds of an instance: a former run of the daemon
// may have measured it.
func (m *Manager) readBack(i *Instance, rec records.Record) (launched, image jsontext.Value, err error) {
	s, err := m.Ledger.Snapshot(i.Owner)
	if err != nil {
		return nil, nil, err
	}
	if mine, _ := m.isLaunchOf(s.Owner.Instance, rec, i); !mine {
		return nil, nil, nil
	}
	events, err := m.Ledger.Events(i.Owner)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range events {
		switch e.Operation {
		case logs.OpLaunch:
			launched = e.Body()
		case logs.OpImage:
			image = e.Body()
		}
	}
	return launched, image, nil
}

// isLaunchOf reports whether the launch that was logged last for an instance's
// owner is the launch of this instance, and whether it is gated: logged, and its
// container judged, before the container's first instruction.
func (m *Manager) isLaunchOf(logged string, rec records.Record, i *Instance) (mine, gated bool) {
	if logged != rec.InstanceID(0) {
		return logged == rec.InstanceID(i.inode), false
	}
	mine, gated, err := m.confirmed.Claim(i.Owner, logged, i.inode)
	if err != nil {
		m.Log.Error("a launch that the gate logged can't be claimed for its container", "container", i.Owner, "error", err)
	}
	return mine, gated
}

// isPending reports whether an instance has not started, or is just starting. Nobody
// claims its launch then: START may confirm it yet.
func (m *Manager) isPending(i *Instance, rec records.Record) bool {
	return !m.confirmed.IsJudged(i.Owner, rec.InstanceID(0)) && (m.awaited.holds(rec.StartKey()) || isPending(rec))
}

// record reads an instance's record again, because a new start may have replaced
// the one that named it.
func (m *Manager) record(ctx context.Context, i *Instance) (records.Record, error) {
	rec, ok, err := m.Records().Declared(ctx, i.Container.Hierarchy, i.Container.CgroupPath)
	if err != nil {
		return records.Record{}, err
	}
	if !ok || rec.Name != i.Container.Name || rec.UID != i.Container.UID {
		return records.Record{}, rpc.Unattributed("the record of this container is gone: the container is being stopped or replaced")
	}
	return rec, nil
}

// LoggedOf returns the log's name of the instance that runs of one of root's records,
// and false if none runs, or if it isn't logged yet. Package execs asks, to catch up
// with containers that ran before it watched them.
func (m *Manager) LoggedOf(ctx context.Context, rec records.Record) (instance string, ok bool) {
	c := PeerContainer(rec)
	running, err := m.Peers.Running(ctx, c)
	if err != nil || rec.UID != 0 || running.CgroupOwner != 0 {
		return "", false // ended, or a user's
	}
	i := m.Use(c, running.CgroupInode, running.CgroupOwner)
	defer m.Release(i)
	s, err := m.Ledger.Snapshot(i.Owner)
	if err != nil || m.isPending(i, rec) {
		return "", false
	}
	mine, _ := m.isLaunchOf(s.Owner.Instance, rec, i)
	return s.Owner.Instance, mine
}

// launchRetry is the time between two looks at a launch that another goroutine logs.
const launchRetry = 5 * time.Millisecond

// EnsureLaunched waits until the launch of a process's instance is logged, and logs
// it if nobody else does. It returns the instance's name in the log. It doesn't wait
// for an image: the engine may wait for this process.
func (m *Manager) EnsureLaunched(ctx context.Context, c *peer.Caller) (instance string, err error) {
	i := m.Use(*c.Container, c.CgroupInode, c.CgroupOwner)
	defer m.Release(i)
	for {
		rec, err := m.record(ctx, i)
		if err != nil {
			return "", err
		}
		s, err := m.Ledger.Snapshot(i.Owner)
		if err != nil {
			return "", err
		}
		pending := m.isPending(i, rec)
		if pending && s.Owner.Instance == rec.InstanceID(0) {
			return s.Owner.Instance, nil // a hook that runs in the container
		}
		if mine, _ := m.isLaunchOf(s.Owner.Instance, rec, i); mine {
			return s.Owner.Instance, nil
		}
		if !pending && i.measuring.TryAcquire(1) { // else another goroutine measures it
			err := m.logLaunch(ctx, i, rec, c.Check)
			i.measuring.Release(1)
			if err != nil {
				return "", err
			}
			continue
		}
		pause(ctx, launchRetry)
		if ctx.Err() != nil {
			return "", gate.ErrDeadline
		}
	}
}
