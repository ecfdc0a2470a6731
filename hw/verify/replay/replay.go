// Package replay answers: what do logs come to?
//
// It computes the registers that event logs explain: RTMR0–3 from boot log, IMA
// log and runtime log, as files have them (Run) or as evidence has them
// (OSLogs). It shows the events, and compares registers with those of a quote
// or TDREPORT. It judges nothing: a log that replays to registers which nobody
// checked proves nothing.
package replay

import (
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
)

// Files are the contents of files with logs, and of one with registers, of this
// system or another. What is not given is nil.
type Files struct {
	Quote      []byte // bytes behind the quote are left out
	TDReport   []byte // 1024 bytes (Intel TDX Module ABI, TDREPORT_STRUCT), in a quote's place
	BootLog    []byte // CCEL, padding and AAEL records behind it included
	IMALog     []byte // ASCII or binary
	RuntimeLog []byte // see logs.UnverifiedRuntimeRecords
}

// Event is one event of a log, for people. Only the register that it extends can
// prove that it happened.
type Event struct {
	Log      string // "boot", "ima", "runtime"
	Number   int    // in its log, from 0
	Register string // "mrtd", "rtmr0"…"rtmr3"; "" where it extends none
	Type     string
	Digest   []byte
	Detail   string // printable, one line
}

// Replayed is what logs come to.
type Replayed struct {
	Registers boot.Registers // after all logs
	Booted    boot.Registers // after the boot log alone

	BootEvents, RuntimeEvents int
	IMAEntries, IMAViolations int64
	Skipped                   int64  // of the IMA log: lines or records that are no entry
	Mismatched                int64  // of the IMA log: entries whose template hash doesn't recompute
	PCR10                     []byte // from the IMA log; nil where it has no entry for it
	PCR10Alg                  alg.ID // its hash algorithm

	// OtherRegisters says that the runtime log has records for other registers
	// than RTMR3.
	OtherRegisters bool

	files     Files
	seesRTMR3 bool // the boot log extends RTMR3

	values  [][48]byte // RTMR3 before the first runtime event and after each
	claimed bool       // runtime records carry RTMR3 as their writer read it
	agreed  int        // how many of them agree with their digests, from the first on
}

// Run computes what registers hold if the logs are true: RTMR0–3 by the boot
// log, RTMR2 by the IMA log after it, RTMR3 by the runtime log. It calls each,
// unless that is nil, with every event. It fails where a log can't be read.
func Run(f Files, each func(Event)) (*Replayed, error) {
	if each == nil {
		each = func(Event) {}
	}
	r := &Replayed{files: f}
	if f.BootLog != nil {
		if err := r.boot(f.BootLog, each); err != nil {
			return nil, err
		}
	}
	r.Booted = r.Registers
	if f.IMALog != nil {
		if err := r.ima(f.IMALog, each); err != nil {
			return nil, err
		}
	}
	r.values = append(r.values, r.Registers[3])
	if f.RuntimeLog != nil {
		if err := r.runtime(f.RuntimeLog, each); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Disagreement says where the runtime log's records contradict themselves, which
// carry RTMR3 as their writer read it; "" where they don't.
func (r *Replayed) Disagreement() string {
	if !r.claimed || r.agreed == r.RuntimeEvents {
		return ""
	}
	return fmt.Sprintf("runtime event %d doesn't lead from the RTMR3 before it to the one after it; those before it agree", r.agreed)
}

// LastAgreement returns how many runtime events log and register agree on: those
// that lead to rtmr3, or, where that is nil, those whose records agree with their
// own values of RTMR3. False where that is not known.
func (r *Replayed) LastAgreement(rtmr3 *hw.Digest) (events int, known bool) {
	if rtmr3 == nil {
		return r.agreed, r.claimed
	}
	for i := len(r.values) - 1; i >= 0 && r.files.RuntimeLog != nil; i-- {
		if r.values[i] == *rtmr3 {
			return i, true
		}
	}
	return 0, false
}
