// Package ledger answers: what has been attested so far?
//
// It keeps the runtime log on disk and RTMR3 in step: nothing is in the one
// that is not in the other (DESIGN, rule 3). Each event is written ahead with
// the register's value before and after it; then the register is extended and
// read back, whatever the extend said. The register itself is the commit mark:
// after a crash its value tells whether the last record happened.
//
// The log lives on a file system that ends with the boot (/run), as the
// register does. So nothing is flushed: what survives a crash of the daemon is
// in the page cache, and a crash of the kernel resets both.
package ledger

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// Register is what this room needs of the hardware.
type Register interface {
	// Registers are read live: a cached value would hide a foreign extend.
	Registers(ctx context.Context) (hw.Registers, error)
	// Extend extends RTMR3. Its error doesn't say that nothing happened.
	Extend(ctx context.Context, digest hw.Digest) error
}

// Anchors: what holds the log's replay value.
const (
	AnchorRTMR3      = "rtmr3"       // the register is ours alone
	AnchorReportData = "report-data" // RTMR3 is another's: only the claims in a quote hold it
)

// Options of a ledger.
type Options struct {
	Dir      string // root-owned, not writable by others; made by the caller
	BootID   string // the TEE's: a log of another boot is not continued
	Anchor   string // AnchorRTMR3 or AnchorReportData
	Register Register
	Limits   Limits
}

// ErrLogged says that the log holds this event already: launch, image and exit
// are logged once for an instance. Who gave up waiting may ask again.
var ErrLogged = errors.New("it is in the runtime log already")

// ErrReplaced says that an event came too late: its container was launched anew
// meanwhile, and it would have gone into the new instance's register.
var ErrReplaced = errors.New("the container was started anew")

// InconsistentError says that register and log no longer agree: something
// else extended RTMR3. It stays until the boot ends.
type InconsistentError struct {
	Count  int       // events up to which they agreed, so far as is known
	Log    hw.Digest // the log's replay
	Actual hw.Digest // what the register says
	Why    string
}

func (e *InconsistentError) Error() string {
	return fmt.Sprintf("runtime log and RTMR3 disagree: %s; they agreed last after %d events; the log replays to %.16s…, the register holds %.16s…",
		e.Why, e.Count, e.Log, e.Actual)
}

// Ledger is the runtime log of this boot. Its methods may be called at once.
type Ledger struct {
	opts Options
	file *file

	writing chan struct{} // holds a token while an event is written: one at a time, over the extend
	pending *diskRecord   // written last, its extend's outcome not known yet; under writing

	mu       sync.RWMutex // everything below
	limits   Limits
	records  places
	register hw.Digest // replay of records
	public   hw.Digest // public register
	publics  []int32   // positions of public events
	owners   map[string]*owner
	spent    map[string]int     // events by whom they are charged to
	shown    sizes              // of what everybody's evidence shows
	said     map[hw.Digest]bool // measured digests of public events
	gaps     gaps               // what was missed
	begun    bool               // this run's start is logged
	open     map[string]*owner  // those whose latest instance has no exit
	broken   error              // an *InconsistentError, for good
}

// record is what is kept in memory of an event; the rest is on disk.
type record struct {
	digest hw.Digest
	offset int64
	length int32
}

// owner is a container's part of the log.
type owner struct {
	events   []int32 // positions of all its events
	first    int     // position in events of the latest launch
	held     []int32 // positions of those since then that register holds
	instance string
	register hw.Digest
	image    bool  // of the instance, is logged
	over     bool  // the instance's exit is logged
	shown    int64 // bytes of its evidence that its events take
}

// Open continues the log in opts.Dir or begins a new one. An inconsistent log
// is not an error: the ledger is returned and refuses events and snapshots
// with an *InconsistentError, so that the daemon can say why. Nor is a register
// that can't be read, or not before ctx ends: it is read before anything is
// logged.
func Open(ctx context.Context, opts Options) (*Ledger, error) {
	l := &Ledger{opts: opts, limits: opts.Limits, writing: make(chan struct{}, 1)}
	l.forget()
	f, err := openFile(opts.Dir, opts.BootID)
	if err != nil {
		return nil, err
	}
	l.file = f
	if err := l.load(); err != nil {
		f.Close()
		return nil, err
	}
	// The error is told again by whatever needs the register.
	_ = l.Check(ctx)
	return l, nil
}

// load enters what the file holds. Whether its last record happened isn't known:
// the daemon may have died between writing it and extending.
func (l *Ledger) load() error {
	var last logs.Event
	return l.file.scan(func(r diskRecord) error {
		e, err := r.event()
		if err != nil {
			return err
		}
		if l.pending != nil {
			l.note(last, *l.pending)
		}
		if r.Before != l.register || r.After != l.register.Extend(e.Digest()) {
			return fmt.Errorf("record %d doesn't follow from the one before it", l.records.n)
		}
		last, l.pending = e, &r
		return nil
	})
}

// forget makes memory as it is before the first event.
func (l *Ledger) forget() {
	l.records, l.publics, l.shown = places{}, nil, sizes{}
	l.register, l.public = hw.Digest{}, hw.Digest{}
	l.owners, l.open = make(map[string]*owner), make(map[string]*owner)
	l.spent, l.said = make(map[string]int), make(map[hw.Digest]bool)
	if l.gaps.happened == nil { // what happened stays so
		l.gaps.happened = make(map[gap]int)
	}
	l.gaps.told = make(map[gap]int)
}

// note enters an event that is in log and register into memory.
func (l *Ledger) note(e logs.Event, r diskRecord) {
	at := int32(l.records.n)
	l.records.add(record{digest: e.Digest(), offset: r.offset, length: r.length})
	l.register = r.After
	l.shown.add(e)
	if who := payer(e.Container, r.Charge); who != "" {
		l.spent[who]++
	}
	measured, isMeasured := e.MeasuredDigest()
	if e.Container == "" {
		l.publics = append(l.publics, at)
		l.public = l.public.Extend(measured)
		l.said[measured] = true
		l.noteMissed(e)
		return
	}
	o := l.owners[e.Container]
	if o == nil {
		o = &owner{}
		l.owners[e.Container] = o
	}
	switch e.Operation {
	case logs.OpLaunch:
		*o = owner{events: o.events, first: len(o.events), instance: r.Instance, shown: o.shown}
		l.open[e.Container] = o
	case logs.OpImage:
		o.image = true
	case logs.OpExit:
		o.over = true
		delete(l.open, e.Container)
	}
	o.events = append(o.events, at)
	o.shown += shownWhole(e)
	if isMeasured {
		o.held = append(o.held, at)
		o.register = o.register.Extend(measured)
	}
}

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

	// Once: a public event that says what an earlier one said is not logged
	// again.
	Once bool
}

// Append logs and attests one event. Without an error the event is in the
// log and in the register. After an error it is in neither, or its outcome is
// not known yet and is settled before anything else is logged; an
// *InconsistentError says what is known.
//
// Where ctx ends first, an *hw.Error says so: what waits for its turn is given
// up, and what has begun is seen through, for its outcome must be known; it may
// be logged after Append returned.
func (l *Ledger) Append(ctx context.Context, e Event) (logs.Event, error) {
	event, err := newEvent(e)
	if err != nil {
		return logs.Event{}, err
	}
	err = l.exclusive(ctx, func(whole context.Context) error {
		if err := l.agreed(whole); err != nil {
			return err
		}
		if measured, ok := event.MeasuredDigest(); e.Once && ok && l.wasSaid(measured) {
			return nil
		}
		l.tellGaps(whole) // if that failed the last time
		if err := l.admit(event, e); err != nil {
			return l.refused(whole, err)
		}
		return l.attest(whole, event, e)
	})
	if err != nil {
		return logs.Event{}, err
	}
	return event, nil
}

// exclusive has f run alone. It waits for its turn, and then for f, no longer
// than ctx lasts. f isn't told of ctx's end, and keeps its turn until it is
// through: hardware that doesn't answer holds up one goroutine, and nobody who
// has a deadline.
func (l *Ledger) exclusive(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return gaveUp(err, "it was not begun", "")
	}
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return gaveUp(ctx.Err(), "what came before is still under way", "the register does not answer, or is slow: ask again later")
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.writing }()
		done <- f(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return gaveUp(ctx.Err(), "it is still under way", "the register does not answer, or is slow; an event may be logged yet: look before it is sent again")
	}
}

func gaveUp(why error, what, advice string) error {
	return &hw.Error{Op: hw.OpExtend, Path: "RTMR3", Err: fmt.Errorf("gave up waiting, %s: %w", what, why), Advice: advice}
}

// attest logs and attests an event that was admitted; the turn is the caller's.
func (l *Ledger) attest(ctx context.Context, event logs.Event, e Event) error {
	before := l.Register()
	r := diskRecord{Before: before, After: before.Extend(event.Digest()), Instance: e.Instance, Charge: e.Charge, Event: event.Bytes()}
	if err := l.file.append(&r); err != nil {
		return err
	}
	l.pending = &r
	var failed error
	if l.opts.Anchor == AnchorRTMR3 {
		failed = l.opts.Register.Extend(ctx, event.Digest())
	}
	done, err := l.settlePending(ctx)
	switch {
	case err != nil:
		return err
	case done:
		l.mu.Lock()
		l.begun = l.begun || event.Operation == logs.OpStart
		l.mu.Unlock()
		return nil
	case failed == nil:
		return errors.New("extend RTMR3: reported done, and the register didn't change")
	}
	return fmt.Errorf("extend RTMR3: %w", failed)
}

func (l *Ledger) wasSaid(measured hw.Digest) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.said[measured]
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

// agreed settles what is pending and checks that nobody else extended RTMR3.
func (l *Ledger) agreed(ctx context.Context) error {
	l.mu.RLock()
	broken := l.broken
	l.mu.RUnlock()
	if broken != nil {
		return broken
	}
	if _, err := l.settlePending(ctx); err != nil {
		return err
	}
	if l.opts.Anchor != AnchorRTMR3 {
		return nil
	}
	now, err := l.rtmr3(ctx)
	if err != nil {
		return fmt.Errorf("read RTMR3: %w", err)
	}
	if now != l.Register() {
		return l.foreign(now)
	}
	return nil
}

// settlePending decides by the register alone whether the record written last
// was attested, enters it or takes it back, and reports which. After an error
// it is pending still, and nothing else is logged before it is settled.
func (l *Ledger) settlePending(ctx context.Context) (done bool, err error) {
	r := l.pending
	if r == nil {
		return false, nil
	}
	now := r.After
	if l.opts.Anchor == AnchorRTMR3 {
		if now, err = l.rtmr3(ctx); err != nil {
			return false, fmt.Errorf("read RTMR3 after an extend: %w", err)
		}
	}
	switch now {
	case r.After:
		e, err := r.event()
		if err != nil {
			return false, err
		}
		l.mu.Lock()
		l.note(e, *r)
		l.mu.Unlock()
		done = true
	case r.Before:
		if err := l.file.truncate(r.offset); err != nil {
			return false, err
		}
	default:
		return false, l.foreign(now)
	}
	l.pending = nil
	return done, nil
}

// Check settles what is pending, reads the register and reports whether log
// and register agree.
func (l *Ledger) Check(ctx context.Context) error { return l.exclusive(ctx, l.agreed) }

func (l *Ledger) rtmr3(ctx context.Context) (hw.Digest, error) {
	all, err := l.opts.Register.Registers(ctx)
	return all.RTMR[3], err
}

// foreign says when something else extended RTMR3, so far as is known.
func (l *Ledger) foreign(actual hw.Digest) error {
	l.mu.RLock()
	begun, events := l.begun, l.records.n
	l.mu.RUnlock()
	why := "RTMR3 was extended by something else"
	switch {
	case !begun && events == 0 && l.pending == nil:
		why = "RTMR3 was extended before this log began"
	case !begun:
		why += " while no daemon ran"
	case l.pending != nil:
		why += " at the same time"
	}
	return l.disagree(actual, why)
}

func (l *Ledger) disagree(actual hw.Digest, why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = &InconsistentError{Count: l.records.n, Log: l.register, Actual: actual, Why: why}
	return l.broken
}

// closeTime is how long Close waits for an extend that is under way.
const closeTime = 5 * time.Second

// Close ends the ledger; the log stays. Where an extend doesn't come back the
// file is closed once it does: its record is written, and whoever opens the log
// next sees by the register what became of it.
func (l *Ledger) Close() error {
	closed := make(chan error, 1)
	go func() {
		l.writing <- struct{}{}
		defer func() { <-l.writing }()
		closed <- l.file.Close()
	}()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTime):
		return errors.New("close the runtime log: an extend of RTMR3 is still under way")
	}
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
