package boot

import (
	"crypto/sha512"
	"fmt"
	"iter"
)

// Extends says whether the event changes one of RTMR0–3, and which. Events of
// type EV_NO_ACTION extend nothing, MRTD is measured before any log begins,
// and other register numbers exist on no TD.
func (e *Event) Extends() (rtmr int, ok bool) {
	return int(e.MR) - 1, e.Type != EvNoAction && e.MR >= 1 && e.MR <= 4
}

// replay is RTMR0–3 as they are computed: each register with room for the
// digest that extends it.
type replay [4][96]byte

// extend does to the registers what the event did, if all is true.
func (r *replay) extend(e *Event) error {
	rtmr, ok := e.Extends()
	if !ok {
		return nil
	}
	if e.noSHA {
		return fmt.Errorf("no SHA-384 digest to extend RTMR%d with", rtmr)
	}
	both := &r[rtmr]
	copy(both[48:], e.Digest[:])
	sum := sha512.Sum384(both[:])
	copy(both[:48], sum[:])
	return nil
}

func (r *replay) registers() Registers {
	var registers Registers
	for i := range registers {
		registers[i] = [48]byte(r[i][:48])
	}
	return registers
}

// Replay computes what RTMR0–3 hold, from zero, if all that the log says
// happened and nothing else. It fails where an event that extends a register
// carries no SHA-384 digest.
func (l *Log) Replay() (Registers, error) { return Replay(l.raw) }

// Replay parses a boot log and replays it to RTMR0–3.
func Replay(b []byte) (Registers, error) {
	var log Log
	var r replay
	if err := log.read(b, &r); err != nil {
		return Registers{}, fmt.Errorf("boot log: %w", err)
	}
	return r.registers(), nil
}

// UnverifiedSteps are the events with what RTMR0–3 hold after each. It ends
// before an event that can't be replayed; Replay says why.
func (l *Log) UnverifiedSteps() iter.Seq2[Event, Registers] {
	return func(yield func(Event, Registers) bool) {
		var r replay
		for _, e := range l.UnverifiedEvents() {
			if r.extend(&e) != nil || !yield(e, r.registers()) {
				return
			}
		}
	}
}
