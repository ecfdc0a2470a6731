package ledger

import (
	"encoding/json/v2"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// index is what memory holds of the log. Ledger.mu guards it.
type index struct {
	records  recordList
	register hw.Digest // replay value of records
	first    pcr.Value // what the PCR that holds the log held before event 0; no bank: RTMR3 holds it
	pcr      pcr.Value // what it holds after records
	public   hw.Digest // public register
	publics  []int32   // positions of public events
	owners   map[string]*owner
	open     map[string]*owner  // owners whose latest instance has no exit event
	spent    map[string]int     // number of events, by payer
	shown    sizes              // of the log in everybody's evidence
	logged   map[hw.Digest]bool // by measured digest: public events
	gaps     gaps               // what was not measured or logged
	power    map[string]bool    // classes of power that the log announces
}

// record is what memory holds of an event. The event itself is on disk.
type record struct {
	digest hw.Digest
	offset int64
	length int32
}

// owner is a container's part of the log.
type owner struct {
	events   []int32 // positions of all its events
	first    int     // position in events of the latest launch
	measured []int32 // positions of the events since then that register holds
	instance string
	cgroup   string // from the launch event
	register hw.Digest
	mounted  bool  // the instance's mounts are logged
	image    bool  // the instance's image is logged
	execs    bool  // exec events of the instance are logged
	over     bool  // the instance's exit is logged
	shown    int64 // bytes that its events take in its evidence
}

func newIndex() index {
	return index{
		owners: make(map[string]*owner), open: make(map[string]*owner),
		spent: make(map[string]int), logged: make(map[hw.Digest]bool),
		gaps:  gaps{happened: make(map[gap]int), logged: make(map[gap]int)},
		power: make(map[string]bool),
	}
}

// notePower notes the classes of a power event.
func (x *index) notePower(e logs.Event) {
	var p logs.PowerBody
	if e.Operation != logs.OpPower || json.Unmarshal(e.Body(), &p) != nil {
		return
	}
	for _, class := range p.Classes {
		x.power[class] = true
	}
}

// note adds an event that log and register hold.
func (x *index) note(e logs.Event, r diskRecord) {
	at := int32(x.records.n)
	if at == 0 {
		x.first = firstPCR(e)
		x.pcr = x.first
	}
	x.pcr = x.pcr.Extend(e.Digest())
	x.records.add(record{digest: e.Digest(), offset: r.offset, length: r.length})
	x.register = r.After
	x.shown.add(e)
	if payer := payerOf(e.Container, r.Charge); payer != "" {
		x.spent[payer]++
	}
	measured, isMeasured := e.MeasuredDigest()
	if e.Container == "" {
		x.publics = append(x.publics, at)
		x.public = x.public.Extend(measured)
		x.logged[measured] = true
		x.gaps.note(e)
		x.notePower(e)
		return
	}
	o := x.owners[e.Container]
	if o == nil {
		o = &owner{}
		x.owners[e.Container] = o
	}
	switch e.Operation {
	case logs.OpLaunch:
		*o = owner{events: o.events, first: len(o.events), instance: r.Instance, cgroup: string(r.Cgroup), shown: o.shown}
		x.open[e.Container] = o
	case logs.OpMounted:
		o.mounted = true
	case logs.OpImage:
		o.image = true
	case logs.OpExec:
		o.execs = true
	case logs.OpExit:
		o.over = true
		delete(x.open, e.Container)
	}
	o.events = append(o.events, at)
	o.shown += shownWhole(e)
	if isMeasured {
		o.measured = append(o.measured, at)
		o.register = o.register.Extend(measured)
	}
}

// holds reports whether the log has an event that an instance has once.
func (x *index) holds(e logs.Event, instance string) bool {
	o := x.owners[e.Container]
	if o == nil || instance == "" || o.instance != instance {
		return false
	}
	switch e.Operation {
	case logs.OpLaunch:
		return true
	case logs.OpMounted:
		return o.mounted
	case logs.OpImage:
		return o.image
	case logs.OpExit:
		return o.over
	}
	return false
}

// replayFrom returns how many events replay to what was quoted, from a snapshot on.
func (x *index) replayFrom(from Snapshot, quoted held) (int, bool) {
	at := held{from.Register, from.PCR}
	for i := from.Count; ; i++ {
		if quoted.pcr.None() && at.rtmr3 == quoted.rtmr3 || at.pcr.Holds(quoted.pcr) {
			return i, true
		}
		if i == x.records.n {
			return 0, false
		}
		digest := x.records.at(i).digest
		at = held{at.rtmr3.Extend(digest), at.pcr.Extend(digest)}
	}
}
