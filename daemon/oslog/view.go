package oslog

import (
	"sort"
	"strings"
	"sync"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// Order is the order of IMA entries and of a caller's own events in the event log
// that the caller sees, behind the boot events. Both lists grow. A record that was
// shown keeps its number, so that pages fit together. The zero value is an empty
// order; its methods may be called from many goroutines.
type Order struct {
	mu   sync.Mutex
	runs []run // at most the number of own events plus one
}

// run ends with so many of both lists in all; within a run IMA entries come first.
type run struct{ ima, own int }

// grow adds what is new, and returns the order up to here.
func (o *Order) grow(ima, own int) []run {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.runs)
	last, before := o.at(n-1), o.at(n-2)
	now := run{max(ima, last.ima), max(own, last.own)}
	switch {
	case now == last:
	case n > 0 && (now.ima == last.ima || last.own == before.own):
		o.runs[n-1] = now // its end moves
	default:
		o.runs = append(o.runs, now)
	}
	return append([]run(nil), o.runs...)
}

func (o *Order) at(i int) run {
	if i < 0 {
		return run{}
	}
	return o.runs[i]
}

// View is what one caller sees, at one moment, of IMA entries and own events.
type View struct {
	entries []entry
	cgroup  string // the caller's, "" for the host
	whole   bool
	runs    []run
}

// View returns the view at a value of RTMR2 of a caller with own events. It grows
// order, perhaps further than another call did.
func (l *Log) View(order *Order, rtmr2 hw.Digest, own int, cgroup string, whole bool) (*View, error) {
	entries, err := l.upTo(rtmr2)
	if err != nil {
		return nil, err
	}
	runs := order.grow(len(entries), own)
	return &View{entries: l.first(runs), cgroup: cgroup, whole: whole, runs: runs}, nil
}

// Total is the number of records.
func (v *View) Total() int {
	if len(v.runs) == 0 {
		return 0
	}
	last := v.runs[len(v.runs)-1]
	return last.ima + last.own
}

// Find tells what stands at a position, from 0: whether an IMA entry or an own
// event, its index in its list, and how many of the same list follow, itself
// included.
func (v *View) Find(position int) (isIMA bool, index, count int) {
	i := sort.Search(len(v.runs), func(i int) bool { return v.runs[i].ima+v.runs[i].own > position })
	this, before := v.runs[i], run{}
	if i > 0 {
		before = v.runs[i-1]
	}
	index = position - before.own // if it is an IMA entry
	if index < this.ima {
		return true, index, this.ima - index
	}
	index = position - this.ima
	return false, index, this.own - index
}

// Record is the IMA entry at index, as record number of the caller's event log
// (cima-api(7), GetCCEventLog). Others' entries are their digest alone.
func (v *View) Record(index, number int) rpc.EventRecord {
	e := &v.entries[index]
	r := rpc.EventRecord{
		RecNum: number, IMRIndex: 2, EventType: boot.EvIMAMeasurement,
		Digests: []rpc.EventDigest{{AlgoID: rpc.AlgoSHA384, Hash: e.digest[:]}},
	}
	if !e.shownTo(v.cgroup, v.whole) {
		return r
	}
	fields := strings.SplitN(strings.TrimSuffix(e.line, "\n"), " ", 4) // register, hash, template, its fields
	r.ExtraInfo = map[string]string{"template_name": fields[2]}
	if len(fields) > 3 {
		r.Event = []byte(fields[3])
	}
	r.EventSize = len(r.Event)
	return r
}
