package boot

import (
	"iter"

	"github.com/cima-project/cima/logs/alg"
)

// ViewEvent is an event of the boot in the view that containers get
// (GetCCEventLog, as in CIMA 0.5). It is as unverified as the log it is from.
type ViewEvent struct {
	IMR    int    // 0–2 = RTMR0–2, 3 = RTMR3 in logs that go on behind the boot
	Type   uint32 // of the boot log; EvIMAMeasurement for IMA entries
	Alg    alg.ID // of Digest
	Digest []byte // what extended the register
	Event  []byte // data of a boot event, fields of an IMA entry as text
}

// UnverifiedView are the boot log's events of RTMR0–3, in order; MRTD's (MR 0)
// have no place in it. Digests are the log's memory.
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
