package boot

import (
	"iter"

	"github.com/cima-project/cima/logs/alg"
)

// ViewEvent is an event of the boot as the method GetCCEventLog shows it to containers
// (cima-from-05(7)). It is as unverified as its log.
type ViewEvent struct {
	IMR    int    // n = RTMRn; 3 occurs in logs to which other software appended
	Type   uint32 // TCG event type
	Alg    alg.ID // of Digest
	Digest []byte // SHA-384 where the event has it, which extended the register
	Event  []byte // the event's data
}

// UnverifiedView yields the log's events of RTMR0–3, in order. Those of MRTD are left out.
// Digest and Event are in the log's own memory.
func (l *Log) UnverifiedView() iter.Seq[ViewEvent] {
	return func(yield func(ViewEvent) bool) {
		for _, e := range l.UnverifiedEvents() {
			if e.MR < 1 || e.MR > 4 {
				continue
			}
			v := ViewEvent{IMR: int(e.MR - 1), Type: e.Type, Event: e.Data}
			for id, digest := range e.Digests() {
				if v.Digest == nil || id == alg.SHA384 {
					v.Alg, v.Digest = id, digest
				}
			}
			if !yield(v) {
				return
			}
		}
	}
}
