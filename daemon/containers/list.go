package containers

import (
	"context"

	"github.com/cima-project/cima/daemon/records"
)

// Listed is a record, and the instance as which it runs.
type Listed struct {
	Record records.Record
	Owner  string // name of the container in the runtime log

	// Instance is nil for a container that doesn't run, or that can't be
	// attributed; Err says why.
	Instance *Instance
	Err      error
}

// List calls f for each record, and stops where f returns false. An instance is in
// use during the call.
func (m *Manager) List(ctx context.Context, f func(Listed) bool) error {
	list, err := m.Records().List(ctx)
	if err != nil {
		return err
	}
	for _, rec := range list {
		c := PeerContainer(rec)
		r, err := m.Peers.Running(ctx, c)
		l := Listed{Record: rec, Owner: c.Owner(r.CgroupOwner), Err: err}
		if rec.Err == nil && rec.InitPID != 0 && rec.CgroupPath != "" && err == nil {
			l.Instance = m.Use(c, r.CgroupInode, r.CgroupOwner)
		}
		goOn := f(l)
		if l.Instance != nil {
			m.Release(l.Instance)
		}
		if !goOn {
			return nil
		}
	}
	return nil
}

// Find returns the instance of a container that runs, counted as used; nil if no
// container of this name runs.
func (m *Manager) Find(ctx context.Context, owner string) (found *Instance, err error) {
	err = m.List(ctx, func(l Listed) bool {
		if l.Owner != owner || l.Instance == nil {
			return true
		}
		found = m.Use(l.Instance.Container, l.Instance.inode, l.Instance.CgroupOwner)
		return false
	})
	return found, err
}
