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
	"errors"
	"fmt"
	"log/slog"
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
	Log      *slog.Logger // for what Begin retries; nil: none
}

// errLogged says that the log holds this event already: launch, image and exit
// are logged once for an instance.
var errLogged = errors.New("it is in the runtime log already")

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

	opened chan struct{} // closed by Begin
	shut   error         // why no event is taken; set before opened is closed

	writing chan struct{} // holds a token while an event is written: one at a time, over the extend
	pending *diskRecord   // written last, its extend's outcome not known yet; under writing

	mu       sync.RWMutex // everything below
	limits   Limits
	records  recordList
	register hw.Digest // replay of records
	public   hw.Digest // public register
	publics  []int32   // positions of public events
	owners   map[string]*owner
	spent    map[string]int     // events by whom they are charged to
	shown    sizes              // of what everybody's evidence shows
	logged   map[hw.Digest]bool // measured digests of public events
	gaps     gaps               // what was missed
	started  bool               // this run's start is logged
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
	measured []int32 // positions of those since then that register holds
	instance string
	cgroup   string // as it was told with the launch
	register hw.Digest
	image    bool  // of the instance, is logged
	execs    bool  // of the instance are logged
	over     bool  // the instance's exit is logged
	shown    int64 // bytes of its evidence that its events take
}

// Open continues the log in opts.Dir or begins a new one. An inconsistent log
// is not an error: the ledger is returned and refuses events and snapshots
// with an *InconsistentError, so that the daemon can say why. Nor is a register
// that can't be read, or not within Limits.Timeout: it is read before anything is
// logged. Append waits for Begin.
func Open(ctx context.Context, opts Options) (*Ledger, error) {
	l := &Ledger{opts: opts, limits: opts.Limits, opened: make(chan struct{}), writing: make(chan struct{}, 1)}
	if l.opts.Log == nil {
		l.opts.Log = slog.New(slog.DiscardHandler)
	}
	l.reset()
	f, err := openFile(opts.Dir, opts.BootID)
	if err != nil {
		return nil, err
	}
	l.file = f
	if err := l.load(); err != nil {
		f.Close()
		return nil, err
	}
	// Whatever needs the register returns the error again.
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

// reset makes memory as it is before the first event.
func (l *Ledger) reset() {
	l.records, l.publics, l.shown = recordList{}, nil, sizes{}
	l.register, l.public = hw.Digest{}, hw.Digest{}
	l.owners, l.open = make(map[string]*owner), make(map[string]*owner)
	l.spent, l.logged = make(map[string]int), make(map[hw.Digest]bool)
	if l.gaps.happened == nil { // what happened stays so
		l.gaps.happened = make(map[gap]int)
	}
	l.gaps.logged = make(map[gap]int)
}

// note enters an event that is in log and register into memory.
func (l *Ledger) note(e logs.Event, r diskRecord) {
	at := int32(l.records.n)
	l.records.add(record{digest: e.Digest(), offset: r.offset, length: r.length})
	l.register = r.After
	l.shown.add(e)
	if who := payerOf(e.Container, r.Charge); who != "" {
		l.spent[who]++
	}
	measured, isMeasured := e.MeasuredDigest()
	if e.Container == "" {
		l.publics = append(l.publics, at)
		l.public = l.public.Extend(measured)
		l.logged[measured] = true
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
		*o = owner{events: o.events, first: len(o.events), instance: r.Instance, cgroup: string(r.Cgroup), shown: o.shown}
		l.open[e.Container] = o
	case logs.OpImage:
		o.image = true
	case logs.OpExec:
		o.execs = true
	case logs.OpExit:
		o.over = true
		delete(l.open, e.Container)
	}
	o.events = append(o.events, at)
	o.shown += shownWhole(e)
	if isMeasured {
		o.measured = append(o.measured, at)
		o.register = o.register.Extend(measured)
	}
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
