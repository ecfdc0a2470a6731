package daemon

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// maxLaunch bounds a launch in an event; what is larger stands as its digest.
const maxLaunch = 64 << 10

// imageRetry is how long a caller is asked to wait for the engine.
const imageRetry = 250 * time.Millisecond

// instance is one start of a container: the writing of its record and the
// inode of its cgroup. No answer about it is given before its launch and
// image are logged.
type instance struct {
	owner       string         // as the runtime log names the container
	container   peer.Container // what its record says
	inode       uint64
	cgroupOwner uint32
	users       int // connections, and 1 while it is known to run; under instances.mu

	first time.Time // when it was seen first

	measuring lock                  // held while it is measured: others of the container wait
	facts     atomic.Pointer[facts] // nil until all is logged; set under measuring

	order oslog.Order // of its event log
}

// facts are what claims say of an instance.
type facts struct {
	launchDigest rpc.Digest
	image        launch.Image
	labels       map[string]launch.Text // those that policy counts
	metadata     string
	start        string
	instance     string // as the log names it
}

// ownerName is how events and claims name a container: its id, with the uid
// before it where records or cgroups are a user's, so that a user's container
// can't pass for root's.
func ownerName(c peer.Container, cgroupOwner uint32) string {
	uid := c.UID
	if uid == 0 {
		uid = cgroupOwner
	}
	if uid == 0 {
		return c.ID
	}
	return fmt.Sprintf("%d/%s", uid, c.ID)
}

// instances are those that run or are connected.
type instances struct {
	mu      sync.Mutex
	byKey   map[instanceKey]*instance
	ofUsers []*instance // measured, and looked after by nobody yet
}

type instanceKey struct {
	owner string
	inode uint64
}

// use returns the instance, and counts one more who uses it.
func (is *instances) use(c peer.Container, inode uint64, cgroupOwner uint32) *instance {
	is.mu.Lock()
	defer is.mu.Unlock()
	key := instanceKey{ownerName(c, cgroupOwner), inode}
	i := is.byKey[key]
	if i == nil {
		i = &instance{owner: key.owner, container: c, inode: inode, cgroupOwner: cgroupOwner, first: time.Now(), measuring: newLock()}
		is.byKey[key] = i
	}
	i.users++
	return i
}

// keep has a measured instance of a user's engine looked after until its end: no
// record of it is listed.
func (is *instances) keep(i *instance) {
	if i.container.UID == 0 {
		return
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	i.users++
	is.ofUsers = append(is.ofUsers, i)
}

// kept are those that nobody looks after yet, each used once for it.
func (is *instances) kept() []*instance {
	is.mu.Lock()
	defer is.mu.Unlock()
	list := is.ofUsers
	is.ofUsers = nil
	return list
}

// release drops what nobody uses: what was known is in the runtime log, if
// somebody comes again.
func (is *instances) release(i *instance) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if i.users--; i.users == 0 {
		delete(is.byKey, instanceKey{i.owner, i.inode})
	}
}

// measured returns the facts of an instance, once all that is to be logged of
// it is: also what it executed.
func (d *Daemon) measured(ctx context.Context, i *instance, still func(context.Context) error) (*facts, error) {
	f, err := d.launched(ctx, i, still)
	if err != nil {
		return nil, err
	}
	return f, d.gated.settle(ctx, i.owner)
}

// launched returns the facts of an instance, and logs its launch and its image
// first where they aren't yet. still says whether the instance is what it was
// when its record was found; what is logged must not be another's.
func (d *Daemon) launched(ctx context.Context, i *instance, still func(context.Context) error) (*facts, error) {
	if f := i.facts.Load(); f != nil {
		return f, nil
	}
	if err := d.enter(ctx, i); err != nil {
		return nil, err
	}
	defer i.measuring.give()
	if f := i.facts.Load(); f != nil {
		return f, nil
	}
	rec, err := d.record(ctx, i)
	if err != nil {
		return nil, err
	}
	l, img, err := d.logged(i, rec)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if err := d.logLaunch(ctx, i, rec, still); err != nil {
			return nil, err
		}
	}
	if img == nil {
		at, err := d.ledger.Snapshot(i.owner)
		if err != nil {
			return nil, err
		}
		if err := d.logImage(ctx, i, rec, at.Owner.Instance); err != nil {
			return nil, err
		}
	}
	if l == nil || img == nil {
		if l, img, err = d.logged(i, rec); err != nil {
			return nil, err
		}
	}
	f, err := newFacts(l, img)
	if err != nil {
		return nil, err
	}
	at, err := d.ledger.Snapshot(i.owner)
	if err != nil {
		return nil, err
	}
	if !d.gated.same(at.Owner.Instance, rec, i) {
		return nil, ledger.ErrReplaced
	}
	f.instance, f.start = at.Owner.Instance, startOf(at.Owner.Instance)
	i.facts.Store(f)
	d.instances.keep(i)
	return f, nil
}

// logged reads back what the log holds of an instance: a former run of the
// daemon may have measured it.
func (d *Daemon) logged(i *instance, rec records.Record) (launched, image json.RawMessage, err error) {
	s, err := d.ledger.Snapshot(i.owner)
	if err != nil || !d.gated.same(s.Owner.Instance, rec, i) {
		return nil, nil, err
	}
	events, err := d.ledger.Events(i.owner)
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

// newFacts computes what claims say from the bytes that were logged, which are
// canonical already.
func newFacts(launched, image json.RawMessage) (*facts, error) {
	f := &facts{metadata: "bundle"}
	var l launch.Launch
	if err := errors.Join(json.Unmarshal(image, &f.image), json.Unmarshal(launched, &l)); err != nil {
		return nil, err
	}
	f.labels = l.Labels
	f.launchDigest = sha512.Sum384(fmt.Appendf(nil, `{"image":%s,"launch":%s}`, image, launched))
	if f.image.Absent == "" {
		f.metadata = "bundle+engine"
	}
	return f, nil
}
