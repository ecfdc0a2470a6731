package ledger

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// Event is an event to be.
type Event struct {
	Operation string
	Owner     string // container, empty for a public event
	Instance  string // with launch: which start of the container this is; else the one it must be
	Measured  any    // marshalled to the object that Measured holds under Operation; nil for exit

	// Last says that from here on events of the owner's are missing. One is
	// taken past the owner's bound, so that a bound reached is no way to act
	// unseen.
	Last bool

	// Charge is whose doing a public event is, in the words of Owner; empty
	// where nobody can cause more of them by being there.
	Charge string

	// Cgroup is with launch where the instance runs, for whoever looks after it
	// once the daemon was started anew; up to PATH_MAX bytes.
	Cgroup string

	// Once: a public event that says what an earlier one said is not logged
	// again.
	Once bool
}

// Append logs and attests one event. Without an error the event is in the
// log and in the register. After an error it is in neither, or its outcome is
// not known yet and is settled before anything else is logged; an
// *InconsistentError says what is known.
//
// Append waits for Begin, for its turn and for the register, no longer than ctx
// and Limits.Timeout last; then it returns an *hw.Error. An extend that has begun
// is seen through all the same, because its outcome must be known: the event may
// be logged after Append returned.
//
// The log holds one launch, one image and one exit of an instance. Append
// returns no error for the second: its caller gave up the first, and asks again.
func (l *Ledger) Append(ctx context.Context, e Event) (logs.Event, error) {
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.AppendUntil(ctx, e)
}

// AppendUntil is Append without Limits.Timeout. It is for callers that need to
// know the outcome, and have no client that waits.
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
		return logs.Event{}, fmt.Errorf("%s event: a cgroup path of %d bytes, more than %d", e.Operation, len(e.Cgroup), maxCgroup)
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
		l.logGaps(whole) // if that failed the last time
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

// attest logs and attests an event that was admitted; the turn is the caller's.
func (l *Ledger) attest(ctx context.Context, event logs.Event, e Event) error {
	before := l.Register()
	r := diskRecord{Before: before, After: before.Extend(event.Digest()), Instance: e.Instance, Charge: e.Charge, Cgroup: []byte(e.Cgroup), Event: event.Bytes()}
	if err := l.file.append(&r); err != nil {
		return err
	}
	l.pending = &r
	var failed error
	if l.opts.Anchor == AnchorRTMR3 {
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
		return &hw.Error{Op: hw.OpExtend, Path: "RTMR3", Err: errors.New("reported done, and the register did not change")}
	}
	return fmt.Errorf("extend RTMR3: %w", failed)
}

func (l *Ledger) wasLogged(measured hw.Digest) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.logged[measured]
}

// holds says that an event which is logged once for an instance is there; under
// mu.
func (l *Ledger) holds(e logs.Event, instance string) bool {
	o := l.owners[e.Container]
	if o == nil || instance == "" || o.instance != instance {
		return false
	}
	switch e.Operation {
	case logs.OpLaunch:
		return true
	case logs.OpImage:
		return o.image
	case logs.OpExit:
		return o.over
	}
	return false
}

func newEvent(e Event) (logs.Event, error) {
	c := logs.Content{Container: e.Owner}
	if e.Measured != nil {
		body, err := marshal(map[string]any{e.Operation: e.Measured})
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
