package api

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// Methods of the admin socket alone.

func (a *API) adminMethods() []server.Method {
	table := []server.Method{
		server.Define(rpc.MethodListContainers, a.listContainers),
		server.Define(rpc.MethodGetStatus, a.status),
		server.Define(rpc.MethodLookUpProcess, lookup{a}.process),
	}
	for _, m := range methods() {
		table = append(table, m.forAdmin(a))
	}
	return server.WithDiscovery(a.Version, table)
}

// methodNames are the methods of all sockets: the admin socket has each.
func methodNames() []string {
	names := []string{rpc.MethodListContainers, rpc.MethodGetStatus, rpc.MethodLookUpProcess, rpc.MethodDiscover}
	for _, m := range methods() {
		names = append(names, m.name)
	}
	return names
}

func (a *API) callerMethods() []server.Method {
	var table []server.Method
	for _, m := range methods() {
		table = append(table, m.forCallers(a))
	}
	return server.WithDiscovery(a.Version, table)
}

// listContainers lists every record. For a container that gets no evidence it says
// why.
func (a *API) listContainers(ctx context.Context, _ rpc.NoParams) (rpc.ContainerList, error) {
	list := rpc.ContainerList{Containers: []rpc.ContainerStatus{}}
	bounded, cancel := a.withTimeout(ctx) // for all containers together
	defer cancel()
	err := a.Containers.List(ctx, func(l containers.Listed) bool {
		rec := l.Record
		status := rpc.ContainerStatus{ContainerIdentity: rpc.ContainerIdentity{
			ID: l.Owner, Runtime: rec.Runtime, Cgroup: rec.CgroupPath,
		}}
		switch {
		case rec.Err != nil:
			status.NotReady = rec.Err.Error()
		case rec.InitPID == 0:
			status.NotReady = "not started, or ended"
		case l.Err != nil:
			status.NotReady = l.Err.Error()
		case l.Instance != nil:
			status.Running = true
			a.describe(bounded, l.Instance, &status)
		}
		list.Containers = append(list.Containers, status)
		return true
	})
	return list, err
}

func (a *API) describe(ctx context.Context, i *containers.Instance, status *rpc.ContainerStatus) {
	s := &subject{owner: i.Owner, instance: i, checkSame: func(ctx context.Context) error { return a.Containers.CheckRuns(ctx, i) }}
	status.ContainerIdentity = *a.identity(ctx, s)
	at, err := a.Ledger.Snapshot(i.Owner)
	switch {
	case err != nil:
		status.NotReady = err.Error()
	case status.Assurance.Metadata == "":
		status.NotReady = "not measured yet"
	default:
		status.Register, status.Events = &at.Owner.Register, at.Owner.Events
		if f := a.Containers.FactsNow(i); f != nil {
			status.Power = f.Power
		}
	}
}

func (a *API) status(_ context.Context, p rpc.StatusParams) (rpc.Status, error) {
	log := a.Ledger.Status()
	at, broken := a.Ledger.Snapshot("")
	s := rpc.Status{
		Version: a.Version, BootID: a.BootID, Uptime: int64(time.Since(a.Started).Seconds()),
		Ready: broken == nil,
		Log: rpc.LogStatus{
			LogClaims: rpc.LogClaims{
				Count: log.Events, Register: at.Register, Public: at.Public, Anchor: a.Config().Anchor,
			},
			Consistent: broken == nil,
		},
		Power:     log.Power,
		Container: a.Containers.Count(),
		Calls:     a.counters.calls(),
		Errors:    a.counters.errors(),
	}
	if broken != nil {
		s.Problem, s.Log.Problem = broken.Error(), broken.Error()
	}
	if a.server != nil {
		s.Server = a.server.Counts()
	}
	if p.Metrics {
		s.Metrics = a.metrics(s)
	}
	return s, nil
}
