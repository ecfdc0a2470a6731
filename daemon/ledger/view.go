package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// Snapshot is the state of the log for one owner at one moment.
type Snapshot struct {
	Count    int       // events
	Register hw.Digest // their replay value from zero: RTMR3, where that holds the log
	PCR      pcr.Value // the PCR, where one holds the log
	Public   hw.Digest // public register
	Publics  int       // how many events are public
	Owner    Owner     // zero if the owner has no events
}

// Quoted is what a quote holds that was made when the log stood so.
func (s Snapshot) Quoted() hw.Registers {
	return hw.Registers{RTMR: [4]hw.Digest{3: s.Register}, PCR: s.PCR}
}

// Owner is a container's part of a snapshot.
type Owner struct {
	Instance string    // of the latest launch; "" if no launch is logged
	Register hw.Digest // container register
	Events   int       // of the latest instance
	Held     int       // of these, events that the container register holds
}

// replayed is the log's replay value.
func (l *Ledger) replayed() hw.Digest {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.register
}

// Snapshot returns the state of the log. It returns an *InconsistentError if log and
// register are known to disagree.
func (l *Ledger) Snapshot(name string) (Snapshot, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := Snapshot{Count: l.records.n, Register: l.register, PCR: l.pcr, Public: l.public, Publics: len(l.publics)}
	if o := l.owners[name]; o != nil {
		s.Owner = Owner{Instance: o.instance, Register: o.register, Events: len(o.events) - o.first, Held: len(o.measured)}
	}
	return s, l.broken
}

// Launched is an instance that has no exit event.
type Launched struct {
	Instance string
	Cgroup   string // from its launch event
	Execs    bool   // the log holds exec events of it
}

// Open returns the owners whose latest instance has no exit event, and that
// instance.
func (l *Ledger) Open() map[string]Launched {
	l.mu.RLock()
	defer l.mu.RUnlock()
	open := make(map[string]Launched, len(l.open))
	for name, o := range l.open {
		open[name] = Launched{o.instance, o.cgroup, o.execs}
	}
	return open
}

// Held reads up to count events that the container register of this instance
// holds, in order, from position from on.
func (l *Ledger) Held(name, instance string, from, count int) ([]logs.Event, error) {
	l.mu.RLock()
	o := l.owners[name]
	if o == nil || o.instance != instance {
		l.mu.RUnlock()
		return nil, ErrReplaced
	}
	from = min(from, len(o.measured))
	picked := l.records.pick(o.measured[from:min(from+count, len(o.measured))])
	l.mu.RUnlock()
	return l.read(picked)
}

// Events reads the events of an owner's latest instance, in order.
func (l *Ledger) Events(name string) ([]logs.Event, error) {
	l.mu.RLock()
	var picked []record
	if o := l.owners[name]; o != nil {
		picked = l.records.pick(o.events[o.first:])
	}
	l.mu.RUnlock()
	return l.read(picked)
}

func (l *Ledger) read(records []record) ([]logs.Event, error) {
	events := make([]logs.Event, 0, len(records))
	for _, r := range records {
		e, err := l.file.read(r)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// Entry is a part of a view: one whole event, or the digests of a run of events
// that the viewer must not see.
type Entry struct {
	Event   []byte
	Digests []byte // n × 48 bytes
}

// Show says what a view shows of the events of other owners. A view always shows
// the viewer's own events and the public events.
type Show int

const (
	ShowDigests Show = iota // their digests: the view replays to the register
	ShowAll                 // the whole events
	ShowOwn                 // nothing: the view does not replay
)

// View returns the log as an owner may see it, up to the event after which its
// register held what was quoted, at or after the snapshot from. With ShowOwn the view ends at the snapshot.
func (l *Ledger) View(ctx context.Context, name string, from Snapshot, quoted hw.Registers, show Show) ([]Entry, error) {
	count, err := l.find(ctx, from, quoted)
	if err != nil {
		return nil, err
	}
	if show == ShowOwn {
		count = from.Count
	}
	l.mu.RLock()
	var own []int32
	if o := l.owners[name]; o != nil && name != "" {
		own = o.events
	}
	seen := merge(own, l.publics, int32(count))
	records := l.records
	l.mu.RUnlock() // the first count records never change
	if show == ShowAll {
		seen = seen[:0]
		for at := range int32(count) {
			seen = append(seen, at)
		}
	}

	var view []Entry
	at := 0
	for _, next := range append(seen, int32(count)) {
		if at < int(next) && show != ShowOwn {
			view = append(view, Entry{Digests: records.digests(at, int(next))})
		}
		if int(next) == count {
			break
		}
		e, err := l.file.read(records.at(int(next)))
		if err != nil {
			return nil, err
		}
		view = append(view, Entry{Event: e.Bytes()})
		at = int(next) + 1
	}
	return view, nil
}

// find returns how many events replay to what was quoted. A quote may hold the extend of
// an event that Append has not added to memory yet: find waits for that one.
func (l *Ledger) find(ctx context.Context, from Snapshot, quoted hw.Registers) (int, error) {
	if !l.opts.anchored() {
		return from.Count, nil
	}
	register := l.opts.of(quoted)
	if l.opts.Anchor == logs.AnchorPCR && register.pcr.None() {
		return 0, &hw.Error{Op: hw.OpQuote, Path: l.opts.registerName(), Err: errors.New("the quote holds no bank of it that the log replays in")}
	}
	for attempt := 0; ; attempt++ {
		l.mu.RLock()
		n, ok := l.replayFrom(from, register)
		l.mu.RUnlock()
		if ok {
			return n, otherBanks(ctx, l)
		}
		if attempt > 0 {
			break
		}
		// Wait until the extend that has begun has an outcome.
		ctx, cancel := l.withTimeout(ctx)
		defer cancel()
		err := l.exclusive(ctx, func(ctx context.Context) error {
			_, err := l.resolvePending(ctx)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	l.mu.RLock()
	broken := l.broken
	l.mu.RUnlock()
	if broken != nil {
		return 0, broken
	}
	return 0, l.disagree(register, "a quote holds a value of "+l.opts.registerName()+" that the log never had")
}

// otherBanks compares the PCR with the log now. A quote holds one bank of it, and root can
// extend another alone.
func otherBanks(ctx context.Context, l *Ledger) error {
	if l.opts.Anchor != logs.AnchorPCR {
		return nil
	}
	return l.Check(ctx)
}

// merge merges two ascending lists, and leaves out what is not below end.
func merge(a, b []int32, end int32) []int32 {
	out := make([]int32, 0, len(a)+len(b)+1)
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0] < a[0] {
			from = &b
		}
		if (*from)[0] >= end {
			*from = nil
			continue
		}
		out = append(out, (*from)[0])
		*from = (*from)[1:]
	}
	return out
}

// Status are the figures of the log for an administrator.
type Status struct {
	Events     int
	Containers int
	Bytes      int64
	Power      []string // classes of power that it announces, sorted; never nil
}

// Status returns the figures of the log.
func (l *Ledger) Status() Status {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var end int64
	if n := l.records.n; n > 0 {
		last := l.records.at(n - 1)
		end = last.offset + int64(last.length)
	}
	power := slices.AppendSeq([]string{}, maps.Keys(l.power))
	slices.Sort(power)
	return Status{Events: l.records.n, Containers: len(l.owners), Bytes: end, Power: power}
}
