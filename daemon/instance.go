package daemon

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// maxLaunch bounds a launch in an event; what is larger stands as its digest.
const maxLaunch = 64 << 10

// imageRetry is how long a caller is asked to wait for the engine.
const imageRetry = 250 * time.Millisecond

// instance is one start of a container: its id and the inode of its scope's
// cgroup. No answer about it is given before its launch and image are logged.
type instance struct {
	key, owner, id string
	users          int // connections; under callers.mu

	mu    sync.Mutex // held while it is measured: others of the container wait
	first time.Time  // when it was seen first
	facts *facts     // nil until all is logged
}

// facts are what claims say of an instance.
type facts struct {
	launchDigest rpc.Digest
	image        launch.Image
	metadata     string
}

func (i *instance) settled() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.facts != nil
}

// measured returns the facts of a caller's instance, and logs its launch and
// its image first where they aren't yet.
func (d *Daemon) measured(ctx context.Context, c *caller) (*facts, error) {
	i := c.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.facts != nil {
		return i.facts, nil
	}
	if i.first.IsZero() {
		i.first = time.Now()
	}
	l, img, err := d.logged(i)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if l, err = d.logLaunch(ctx, c); err != nil {
			return nil, err
		}
	}
	if img == nil {
		if img, err = d.logImage(ctx, c); err != nil {
			return nil, err
		}
	}
	i.facts, err = newFacts(l, img)
	return i.facts, err
}

// logged reads back what the log holds of an instance: a former run of the
// daemon may have measured it.
func (d *Daemon) logged(i *instance) (launched, image json.RawMessage, err error) {
	s, err := d.ledger.Snapshot(i.owner)
	if err != nil || s.Owner.Instance != i.id {
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

func (d *Daemon) logLaunch(ctx context.Context, c *caller) (json.RawMessage, error) {
	rec, err := d.record(ctx, c)
	if err != nil {
		return nil, err
	}
	l, err := d.store.Measure(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("measure container %.12s: %w", rec.ID, err)
	}
	// The record was read after the caller was named: is it still its own?
	if err := c.Check(ctx); err != nil {
		return nil, refusal(err)
	}
	l.CgroupOwner = c.CgroupOwner
	if l, err = launch.Condense(l, maxLaunch); err != nil {
		return nil, err
	}
	if classes := launch.Power(rec); len(classes) > 0 {
		// Before its launch, so that no evidence of it is without.
		if _, err := d.ledger.Append(ctx, ledger.Event{Operation: logs.OpPower, Measured: powerEvent{classes}}); err != nil {
			return nil, err
		}
	}
	_, err = d.ledger.Append(ctx, ledger.Event{Operation: logs.OpLaunch, Owner: c.owner, Instance: c.instance.id, Measured: l})
	if err != nil {
		return nil, err
	}
	d.log.Info("container measured", "container", c.owner, "runtime", rec.Runtime)
	launched, _, err := d.logged(c.instance)
	return launched, err
}

// powerEvent is measured.power: by which means some container could act as
// root of the guest. It names no container, for all see it.
type powerEvent struct {
	Classes []string `json:"classes"`
}

func (d *Daemon) logImage(ctx context.Context, c *caller) (json.RawMessage, error) {
	rec, err := d.record(ctx, c)
	if err != nil {
		return nil, err
	}
	img, err := d.store.Image(ctx, rec)
	deadline := time.Duration(d.opts.Config.Launch.ImageDeadline)
	switch {
	case err == nil:
	case errors.Is(err, launch.ErrNoEngine):
		img = launch.Image{Absent: "no engine to ask"}
	case time.Since(c.instance.first) < deadline:
		return nil, rpc.NotReady(imageRetry, "the engine has not told the image yet: ask again").Because(err)
	default:
		d.log.Warn("image not measured", "container", c.owner, "error", err)
		img = launch.Image{Absent: "the engine did not answer"}
	}
	if _, err := d.ledger.Append(ctx, ledger.Event{Operation: logs.OpImage, Owner: c.owner, Measured: img}); err != nil {
		return nil, err
	}
	_, image, err := d.logged(c.instance)
	return image, err
}

// record reads a caller's record again; the one that named it may have been
// replaced by a new start.
func (d *Daemon) record(ctx context.Context, c *caller) (launch.Record, error) {
	rec, ok, err := d.store.Declared(ctx, c.Container.CgroupPath)
	if err != nil {
		return launch.Record{}, err
	}
	if !ok || rec.ID != c.Container.ID || rec.UID != c.Container.UID {
		return launch.Record{}, rpc.Unattributed("the record of this container is gone: it is being stopped or replaced")
	}
	return rec, nil
}

// newFacts computes what claims say from the bytes that were logged, which are
// canonical already.
func newFacts(launched, image json.RawMessage) (*facts, error) {
	f := &facts{metadata: "bundle"}
	if err := json.Unmarshal(image, &f.image); err != nil {
		return nil, err
	}
	f.launchDigest = sha512.Sum384(fmt.Appendf(nil, `{"image":%s,"launch":%s}`, image, launched))
	if f.image.Absent == "" {
		f.metadata = "bundle+engine"
	}
	return f, nil
}
