package daemon

import (
	"context"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
)

// recordSource answers package peer from the records in force: neither package
// imports the other.
type recordSource struct{ store func() *records.Store }

func (r recordSource) Declared(ctx context.Context, hierarchy, cgroupPath string) (peer.Container, bool, error) {
	rec, ok, err := r.store().Declared(ctx, hierarchy, cgroupPath)
	if err != nil || !ok {
		return peer.Container{Hierarchy: rec.Hierarchy}, false, err
	}
	c := containers.PeerContainer(rec)
	c.CgroupPath, c.Hierarchy = rec.CgroupIn(hierarchy), rec.Hierarchy
	return c, true, nil
}
