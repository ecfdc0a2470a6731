// Package containers answers: what is logged of a container, from start to end?
//
// A start, from the held runtime to the launch event:
//
//	engine executes runc create
//	  └ gate.Runtimes holds the runtime ── Gate.atRuntime
//	      └ records.List: bundles that are new ── Gate.once
//	          └ Measure: config.json, root file system, entrypoint
//	              └ power event, if the specification gives power
//	                  └ launch event, with no cgroup yet ── Manager.appendLaunch
//	  └ the runtime goes on, and makes the first process
//	engine executes runc start: START
//	  └ gate.Runtimes holds the runtime ── Gate.start
//	      └ the first process waits in its exec FIFO; until then, gate.ErrAgain
//	          └ Judge: what the kernel shows of it
//	              └ power event of new classes, mounted event
//	                  └ it still waits: confirmed ── confirmed.Starts
//	  └ the runtime goes on
//	the container runs
//	  └ survey, or a call of its own ── Manager.Facts
//	      └ the launch is this cgroup's ── confirmed.Starts.Claim
//	          └ image event, once the engine answers
//	the container ends
//	  └ exit event ── exits
//
// What confirmed means: the launch, its power and its mounts were logged while the
// container's first process waited to be started. The process is looked at last, after
// all is logged, so it doesn't matter who let the runtime go, when the launch was
// measured, or whether this daemon measured it: a daemon that begins between create and
// START judges what it finds waiting. The first cgroup that is seen of a launch claims
// it, as gated if it is confirmed by then and as observed if it isn't; that is on disk,
// and never changes. While a container is made and not started nobody claims its launch
// (Manager.isPending). A failure concerns one container: the others' launches are
// confirmed each by its own process.
//
// A runtime that makes and starts a container with one command (runc run) has no START:
// there the first exec of the first process is held in its place (Gate.firstExec), by a
// mark that is gone afterwards.
//
// A container that was not judged is observed: the gate did not see it, its runtime has
// no exec FIFO, or the gate's deadline passed. Before evidence of
// it is given, and before its image is logged, a power event says unseen-start, and what
// its first process shows by then. Where the gate did not see it at all, its launch names
// its cgroup. Containers of rootless engines are observed too, and have no class.
package containers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/confirmed"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/rpc"
)

// Images tells which image a container was made from; *engines.Client does.
type Images interface {
	Image(ctx context.Context, rec records.Record) (launch.Image, error)
}

// Execs measures what containers execute; *execs.Manager does.
type Execs interface {
	// BeforeLaunch logs what was executed before a launch is logged: it belongs to
	// the instance before.
	BeforeLaunch(ctx context.Context)

	// Started begins to measure a container whose launch is logged as instance. An
	// error says that the container must not run.
	Started(ctx context.Context, rec records.Record, instance string) error

	// Pending reports whether Flush may have something to do.
	Pending(owner string) bool

	// Flush logs what is pending of a container. No evidence of the container is
	// given while it fails.
	Flush(ctx context.Context, owner string) error
}

// Options say what a Manager works with.
type Options struct {
	Ledger   *ledger.Ledger
	Records  func() *records.Store // as the configuration in force wants them
	Images   Images
	Peers    *peer.Identifier
	Config   func() *config.Config // in force
	Log      *slog.Logger
	Dir      string // of the runtime log: confirmed starts are stored next to it
	HostRoot string // before paths that engines mount at; "" where they are ours
}

// Manager logs the launch, the image and the end of containers. Its methods may be
// called from many goroutines.
type Manager struct {
	Options
	instances instances
	confirmed *confirmed.Starts
	starts    recentStarts
	deferred  deferredLaunches
	unlogged  confirmed.Unlogged
	awaited   awaitedExecs
	calls     abandon.Calls // on containers' files
	execs     Execs         // nil: executions are not measured

	Counts Counts
}

// New makes a manager, and reads which launches a former run of the daemon
// confirmed.
func New(o Options) (*Manager, error) {
	m := &Manager{Options: o, instances: instances{byKey: make(map[instanceKey]*Instance)}}
	var err error
	m.confirmed, err = confirmed.Open(o.Dir, func(owner string) string {
		s, err := o.Ledger.Snapshot(owner)
		if err != nil {
			return ""
		}
		return s.Owner.Instance
	})
	if err != nil {
		return nil, fmt.Errorf("confirmed starts: %w", err)
	}
	return m, nil
}

// SetExecs says who measures executions. It is called before the gate opens.
func (m *Manager) SetExecs(x Execs) { m.execs = x }

// Close closes the file of confirmed starts.
func (m *Manager) Close() { m.confirmed.Close() }

// Use returns the instance of a container that runs, and counts one more user of
// it. Release gives it back.
func (m *Manager) Use(c peer.Container, inode uint64, cgroupOwner uint32) *Instance {
	return m.instances.use(c, inode, cgroupOwner)
}

// Release gives back an instance that Use returned.
func (m *Manager) Release(i *Instance) { m.instances.release(i) }

// Count is the number of instances that run or are connected.
func (m *Manager) Count() int { return m.instances.count() }

// CheckRuns checks that a container runs as the instance that it was.
func (m *Manager) CheckRuns(ctx context.Context, i *Instance) error {
	r, err := m.Peers.Running(ctx, i.Container)
	if err == nil && r.CgroupInode != i.inode {
		err = errors.New("the container was started anew")
	}
	return err
}

// Facts returns the facts of an instance, once all that is to be logged of it is
// logged. checkSame checks that the instance is still the one whose record was
// found: what is logged must not be another's.
func (m *Manager) Facts(ctx context.Context, i *Instance, checkSame func(context.Context) error) (*Facts, error) {
	f, err := m.logged(ctx, i, checkSame)
	if err != nil || m.execs == nil {
		return f, err
	}
	return f, m.execs.Flush(ctx, i.Owner)
}

// FactsNow returns the facts of an instance if they are known and nothing of the
// container is pending, else nil. It doesn't wait.
func (m *Manager) FactsNow(i *Instance) *Facts {
	if f := i.facts.Load(); f != nil && (m.execs == nil || !m.execs.Pending(i.Owner)) {
		return f
	}
	return nil
}

// lock takes an instance's lock, or refuses because the instance is being
// measured. Before the daemon's start is logged nobody knows whether the log's last
// record happened.
func (m *Manager) lock(ctx context.Context, i *Instance) error {
	if err := m.Ledger.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.Config().Limits.RegisterTimeout))
	defer cancel()
	if err := i.measuring.Acquire(ctx, 1); err != nil {
		return rpc.NotReady(time.Second, "the container is still being measured, and the register does not answer: ask again").Because(err)
	}
	return nil
}

// PeerContainer returns the container of a record, as package peer names it.
func PeerContainer(rec records.Record) peer.Container {
	return peer.Container{
		ID: rec.ID, Name: rec.Name, Runtime: rec.Runtime, UID: rec.UID, CgroupPath: rec.CgroupPath, Hierarchy: rec.Hierarchy,
		InitPID: rec.InitPID, InitStart: rec.InitStart, HostPID: rec.HostPID,
	}
}

// refusal makes an error of package peer one that a caller gets.
func refusal(err error) error {
	if errors.Is(err, peer.ErrUnattributed) {
		return rpc.Unattributed("%v", err).Because(err)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
