package ledger

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// Event is an event to log.
type Event struct {
	Operation string
	Owner     string // container, empty for a public event
	Instance  string // of a launch: which start of the container this is; of other events: the start they belong to
	Measured  any    // written as JSON under the name Operation; nil for exit

	// Last says that the owner's events are missing from here on. The ledger
	// takes one such event past the owner's limit: an owner that has used up
	// its limit can't act unseen.
	Last bool

	// Charge is the container that caused a public event, written as Owner;
	// empty if no container can cause more such events.
	Charge string

	// Cgroup of a launch is the path of the instance's cgroup, at most PATH_MAX
	// bytes. A later run of the daemon finds the instance by it.
	Cgroup string

	// Once says that a public event with the same measured content is logged
	// once only.
	Once bool
}

// Append logs and attests one event. Without an error the event is in the log
// and in the register. After an error the event is in neither, or its outcome is
// not known; the ledger resolves that before it logs another event.
//
// Append waits for Begin, for its turn and for the register. When ctx or
// Limits.Timeout ends first, Append returns an *hw.Error. An extend that has begun
// goes on, because its outcome must be known: the event may be logged after Append
// returned.
//
// The log holds one launch, one mounted, one image and one exit event of an instance.
// Append returns no error for the second one: a caller that gave up may ask again.
func (l *Ledger) Append(ctx context.Context, e Event) (logs.Event, error) {
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.AppendUntil(ctx, e)
}

// AppendUntil is Append without Limits.Timeout, for callers that must know the
// outcome and for whom no client waits.
func (l *Ledger) AppendUntil(ctx context.Context, e Event) (logs.Event, error) {
	if err := l.waitOpened(ctx); err != nil {
		return logs.Event{}, err
	}
	event, err := l.append(ctx, e)
	if errors.Is(err, errLogged) {
		err = nil
	}
	return event, err
}

func (l *Ledger) append(ctx context.Context, e Event) (logs.Event, error) {
	if len(e.Cgroup) > maxCgroup {
		return logs.Event{}, fmt.Errorf("%s event: the cgroup path has %d bytes, must be at most %d", e.Operation, len(e.Cgroup), maxCgroup)
	}
	event, err := newEvent(e)
	if err != nil {
		return logs.Event{}, err
	}
	err = l.exclusive(ctx, func(whole context.Context) error {
		if err := l.agreed(whole); err != nil {
			return err
		}
		if measured, ok := event.MeasuredDigest(); e.Once && ok && l.wasLogged(measured) {
			return nil
		}
		l.logGaps(whole) // of which an earlier try failed; attest learns of a gap that it leaves undecided
		if err := l.admit(event, e); err != nil {
			return l.refused(whole, err)
		}
		return l.attest(whole, event, e)
	})
	if err != nil && !errors.Is(err, errLogged) {
		return logs.Event{}, err
	}
	return event, err
}

// attest logs and attests an event that admit let pass. The caller has the turn. The
// outcome of an earlier event must be known first, of a gap just before it as well:
// what the register holds does not tell two open records apart.
func (l *Ledger) attest(ctx context.Context, event logs.Event, e Event) error {
	if _, err := l.resolvePending(ctx); err != nil {
		return err
	}
	before := l.replayed()
	if err := checkFirst(l, event); err != nil {
		return err
	}
	r := diskRecord{Before: before, After: before.Extend(event.Digest()), Instance: e.Instance, Charge: e.Charge, Cgroup: []byte(e.Cgroup), Event: event.Bytes()}
	if err := l.file.append(&r); err != nil {
		return err
	}
	l.pending = &r
	var failed error
	if l.opts.anchored() {
		failed = l.opts.Register.Extend(ctx, event.Digest())
	}
	done, err := l.resolvePending(ctx)
	switch {
	case err != nil:
		return err
	case done:
		l.mu.Lock()
		l.started = l.started || event.Operation == logs.OpStart
		l.mu.Unlock()
		return nil
	case failed == nil:
		return &hw.Error{Op: hw.OpExtend, Path: l.opts.registerName(), Err: errors.New("reported done, and the register did not change")}
	}
	return fmt.Errorf("extend %s: %w", l.opts.registerName(), failed)
}

func (l *Ledger) wasLogged(measured hw.Digest) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.logged[measured]
}

func newEvent(e Event) (logs.Event, error) {
	c := logs.Content{Container: e.Owner}
	if e.Measured != nil {
		body, err := canonical.Marshal(map[string]any{e.Operation: e.Measured})
		if err != nil {
			return logs.Event{}, fmt.Errorf("%s event: %w", e.Operation, err)
		}
		c.Measured = body
	}
	if e.Owner != "" {
		salt := make([]byte, 16)
		rand.Read(salt) // never fails (crypto/rand)
		c.Salt = base64.StdEncoding.EncodeToString(salt)
	}
	return logs.NewEvent(e.Operation, c)
}
