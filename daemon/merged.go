package daemon

import (
	"sort"
	"strings"
	"sync"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// merged is the order of what a caller's event log has behind the boot's events
// where the kernel extends RTMR2 for IMA: it grows by IMA's entries, and by
// events of the caller's own. What was shown keeps its number, so that pages fit
// together.
type merged struct {
	mu   sync.Mutex
	runs []mergedRun // no more than own events, and one
}

// mergedRun ends with that many of both in all; within a run IMA's come first.
type mergedRun struct{ ima, own int }

// grow takes in what is new, and returns the order up to here.
func (m *merged) grow(ima, own int) []mergedRun {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.runs)
	last, before := m.run(n-1), m.run(n-2)
	now := mergedRun{max(ima, last.ima), max(own, last.own)}
	switch {
	case now == last:
	case n > 0 && (now.ima == last.ima || last.own == before.own):
		m.runs[n-1] = now // its end moves
	default:
		m.runs = append(m.runs, now)
	}
	return append([]mergedRun(nil), m.runs...)
}

func (m *merged) run(i int) mergedRun {
	if i < 0 {
		return mergedRun{}
	}
	return m.runs[i]
}

// imaView is what a view has where the kernel extends RTMR2 for IMA.
type imaView struct {
	entries []osEntry
	cgroup  string // the caller's, "" for the host
	whole   bool
	runs    []mergedRun
}

func (v *imaView) total() int {
	if len(v.runs) == 0 {
		return 0
	}
	last := v.runs[len(v.runs)-1]
	return last.ima + last.own
}

// find returns which of IMA's entries or of the own events stands at a position
// behind the boot's events, and how many of the same follow, itself included.
func (v *imaView) find(position int) (isIMA bool, index, count int) {
	i := sort.Search(len(v.runs), func(i int) bool { return v.runs[i].ima+v.runs[i].own > position })
	run, before := v.runs[i], mergedRun{}
	if i > 0 {
		before = v.runs[i-1]
	}
	index = position - before.own // if it is IMA's
	if index < run.ima {
		return true, index, run.ima - index
	}
	index = position - run.ima
	return false, index, run.own - index
}

// record is an entry as CIMA 0.5 showed it; of others there is the digest alone,
// as in evidence.
func (v *imaView) record(index, number int) rpc.EventRecord {
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
