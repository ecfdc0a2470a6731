package boot

import (
	"crypto/sha512"
	"fmt"
)

// Extends returns the number of the RTMR (0–3) that the event extends. It is false for
// events that extend none: those of type EV_NO_ACTION, those of MRTD, which is complete
// before any log begins, and those of registers that no TD has.
func (e *Event) Extends() (rtmr int, ok bool) {
	return int(e.MR) - 1, e.Type != EvNoAction && e.MR >= 1 && e.MR <= 4
}

// replay is RTMR0–3 as they are computed: each register's value, then 48 bytes for the
// digest that extends it.
type replay [4][96]byte

// extend extends the registers as the event would have.
func (r *replay) extend(e *Event) error {
	rtmr, ok := e.Extends()
	if !ok {
		return nil
	}
	if e.noSHA {
		return fmt.Errorf("there must be a SHA-384 digest, which extends RTMR%d", rtmr)
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

// Replay computes what RTMR0–3 hold if exactly the log's events happened, from zero. It
// fails where an event that extends a register has no SHA-384 digest.
func (l *Log) Replay() (Registers, error) { return Replay(l.raw) }

// Replay reads a boot log, as [Parse] does, and replays it to RTMR0–3, as [Log.Replay]
// does, in one pass and without allocations.
func Replay(b []byte) (Registers, error) {
	var log Log
	var r replay
	if err := log.read(b, &r); err != nil {
		return Registers{}, fmt.Errorf("boot log: %w", err)
	}
	return r.registers(), nil
}
