// Package ledger answers: what has been attested so far?
//
// The ledger keeps the runtime log on disk and its register in step (RTMR3, or a PCR of
// a TPM inside the TEE): each holds exactly the events that the other holds (SECURITY.md, What holds it, 3). The ledger
// writes a record ahead, with the register's value before and after the event;
// then it extends the register and reads it back, whatever the extend returned.
// The register's value is the commit mark: after a crash it tells whether the
// last record was attested.
//
// The log lies on a file system that ends with the boot (/run), as the register
// does. So no write is synced: the page cache survives a crash of the daemon,
// and a crash of the kernel resets log and register.
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

// Register is what the ledger needs of the hardware.
type Register interface {
	// Registers reads the registers from the hardware each time: a cached value
	// would hide an extend by another program.
	Registers(ctx context.Context) (hw.Registers, error)
	// Extend extends the log's register: RTMR3, or the PCR in all its banks at once.
	// After an error it may be extended all the same.
	Extend(ctx context.Context, digest hw.Digest) error
}

// Options of a ledger.
type Options struct {
	Dir      string // owned by root, not writable by others; the caller makes it
	BootID   string // the TEE's; a log of another boot is not continued
	Anchor   string // logs.AnchorRTMR3 and the like: what holds the log's replay value
	PCR      int    // its number, where Anchor is logs.AnchorPCR
	Register Register
	Limits   Limits
	Log      *slog.Logger // gets what Begin retries; nil: no log
}

// errLogged says that the log holds this event already: an instance has one
// launch, one image and one exit.
var errLogged = errors.New("it is in the runtime log already")

// ErrReplaced says that an event came too late: its container was launched anew
// in the meantime, and the event would go into the new instance's register.
var ErrReplaced = errors.New("the container was started anew")

// InconsistentError says that register and log no longer agree: another program
// extended RTMR3. The ledger returns it until the boot ends.
type InconsistentError struct {
	Count    int    // events up to which log and register agreed, as far as is known
	register string // its name
	log      held   // the log's replay value
	actual   held   // the register's value
	why      string
}

func (e *InconsistentError) Error() string {
	return fmt.Sprintf("runtime log and %s disagree: %s; they agreed last after %d events; the log replays to %v, the register holds %v",
		e.register, e.why, e.Count, e.log, e.actual)
}

// Ledger is the runtime log of this boot. Its methods may be called concurrently.
type Ledger struct {
	opts Options
	file *file

	opened chan struct{} // closed by Begin
	shut   error         // why the ledger takes no event; set before opened is closed

	writing chan struct{} // holds a token while one event is written and the register extended
	pending *diskRecord   // the last record, if the outcome of its extend is not known; under writing

	mu      sync.RWMutex // guards all fields below
	limits  Limits
	started bool  // the start of this run is logged
	broken  error // an *InconsistentError; stays
	index
}

// Open continues the log in opts.Dir, or begins a new one. Append waits for
// Begin.
//
// An inconsistent log is no error of Open: the ledger refuses events and
// snapshots with an *InconsistentError, so that the daemon can report the cause.
// A register that can't be read within Limits.Timeout is no error of Open
// either: the ledger reads it again before it logs an event.
func Open(ctx context.Context, opts Options) (*Ledger, error) {
	l := &Ledger{opts: opts, limits: opts.Limits, opened: make(chan struct{}), writing: make(chan struct{}, 1), index: newIndex()}
	if l.opts.Log == nil {
		l.opts.Log = slog.New(slog.DiscardHandler)
	}
	f, err := openFile(opts.Dir, opts.BootID)
	if err != nil {
		return nil, err
	}
	l.file = f
	if err := l.load(); err != nil {
		f.Close()
		return nil, err
	}
	// Each method that needs the register returns the error again.
	_ = l.Check(ctx)
	return l, nil
}

// load reads the file into memory. The last record stays pending: the daemon may
// have died after it wrote the record and before it extended the register.
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

// closeTime bounds how long Close waits for an extend that has begun.
const closeTime = 5 * time.Second

// Close ends the ledger; the log stays on disk. If an extend does not return in
// time, Close returns an error, and the file is closed when the extend returns.
// Its record is written: Open decides by the register whether it was attested.
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
		return fmt.Errorf("close the runtime log: an extend of %s is still under way", l.opts.registerName())
	}
}
