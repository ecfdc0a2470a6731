package logs

import (
	"fmt"
	"iter"
)

// Extends says whether the event changes one of RTMR0–3, and which. Events of
// type EV_NO_ACTION extend nothing, MRTD is measured before any log begins,
// and other register numbers exist on no TD.
func (e *BootEvent) Extends() (rtmr int, ok bool) {
	return int(e.MR) - 1, e.Type != EvNoAction && e.MR >= 1 && e.MR <= 4
}

// Replay computes what RTMR0–3 hold, from zero, if all that the log says
// happened and nothing else. It fails where an event that extends a register
// carries no SHA-384 digest.
func (l *BootLog) Replay() (Registers, error) {
	var registers Registers
	var e BootEvent
	at := l.header.size
	for i := range l.count {
		n, _ := l.header.event(l.raw[at:], &e)
		at += n
		if err := e.replay(&registers); err != nil {
			return Registers{}, fmt.Errorf("boot log: event %d: %w", i, err)
		}
	}
	return registers, nil
}

// UnverifiedSteps are the events with what RTMR0–3 hold after each. It ends
// before an event that can't be replayed; Replay says why.
func (l *BootLog) UnverifiedSteps() iter.Seq2[BootEvent, *Registers] {
	return func(yield func(BootEvent, *Registers) bool) {
		var registers Registers
		for _, e := range l.UnverifiedEvents() {
			if e.replay(&registers) != nil || !yield(e, &registers) {
				return
			}
		}
	}
}

func (e *BootEvent) replay(registers *Registers) error {
	rtmr, ok := e.Extends()
	if !ok {
		return nil
	}
	if e.noSHA {
		return fmt.Errorf("no SHA-384 digest to extend RTMR%d with", rtmr)
	}
	registers[rtmr] = Extend(registers[rtmr], e.Digest)
	return nil
}

// Agree compares a replay with registers out of a verified quote or TDREPORT,
// register by register. Only what the log says of a register that agrees
// happened. RTMR2 and RTMR3 may go on growing after the boot log's end.
func Agree(replayed, quoted Registers) [4]bool {
	var same [4]bool
	for i := range same {
		same[i] = replayed[i] == quoted[i]
	}
	return same
}

// ReplayBootLog parses a boot log and replays it to RTMR0–3.
func ReplayBootLog(b []byte) (Registers, error) {
	log, err := ParseBootLog(b)
	if err != nil {
		return Registers{}, err
	}
	return log.Replay()
}
