package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/ima"
)

// Files are logs as files have them, of this system or another; nil where one
// is not given.
type Files struct {
	Quote      []byte // whatever stands behind the quote is left out
	TDReport   []byte // 1024 bytes (Intel TDX Module ABI, TDREPORT_STRUCT), in a quote's place
	BootLog    []byte // CCEL, padding and AAEL records behind it included
	IMALog     []byte // ASCII or binary
	RuntimeLog []byte // see logs.UnverifiedRuntimeRecords
}

// LoggedEvent is one event of a log, for people. Nothing says that it
// happened: its register may.
type LoggedEvent struct {
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

	BootEvents, RuntimeEvents              int
	IMAEntries, IMAViolations              int64
	Skipped                                int64 // of the IMA log: what is no entry
	Mismatched                             int64 // of the IMA log: template hashes that don't recompute
	PCR10                                  []byte
	PCR10Alg                               alg.ID
	hasBoot, hasIMA, hasRuntime, seesRTMR3 bool
	besides                                bool // records of the runtime log are of other registers than RTMR3

	// values are RTMR3 before the first runtime event and after each;
	// told says what the records themselves say, up to which they agree.
	values [][48]byte
	told   bool
	agreed int
}

// Replay computes what registers hold if the logs are true: RTMR0–3 by the
// boot log, RTMR2 by the IMA log after it, RTMR3 by the runtime log. each, if
// given, is called with every event. It fails where a log can't be read.
func Replay(f Files, each func(LoggedEvent)) (*Replayed, error) {
	if each == nil {
		each = func(LoggedEvent) {}
	}
	r := &Replayed{hasBoot: f.BootLog != nil, hasIMA: f.IMALog != nil, hasRuntime: f.RuntimeLog != nil}
	if r.hasBoot {
		if err := r.boot(f.BootLog, each); err != nil {
			return nil, err
		}
	}
	r.Booted = r.Registers
	if r.hasIMA {
		if err := r.ima(f.IMALog, each); err != nil {
			return nil, err
		}
	}
	r.values = append(r.values, r.Registers[3])
	if r.hasRuntime {
		if err := r.runtime(f.RuntimeLog, each); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Replayed) boot(raw []byte, each func(LoggedEvent)) error {
	log, err := boot.Parse(raw)
	if err != nil {
		return err
	}
	if r.Registers, err = log.Replay(); err != nil {
		return err
	}
	r.BootEvents = log.Len()
	for i, e := range log.UnverifiedEvents() {
		rtmr, extends := e.Extends()
		r.seesRTMR3 = r.seesRTMR3 || extends && rtmr == 3
		register := ""
		if extends {
			register = fmt.Sprintf("rtmr%d", rtmr)
		} else if e.MR == 0 {
			register = "mrtd"
		}
		each(LoggedEvent{"boot", i, register, boot.TypeName(e.Type), e.Digest[:], e.Detail()})
	}
	return nil
}

func (r *Replayed) ima(raw []byte, each func(LoggedEvent)) error {
	in := ima.NewReader(bytes.NewReader(raw))
	in.Check = true
	rtmr2 := ima.NewRTMR2(r.Registers[2])
	var pcr10 *ima.Register
	for e, err := range in.UnverifiedEntries() {
		if err != nil {
			return fmt.Errorf("IMA log: %w", err)
		}
		if pcr10 == nil && e.PCR == 10 {
			r.PCR10Alg = e.Alg
			pcr10 = ima.NewPCR(e.Alg, 10)
		}
		err := rtmr2.Extend(e)
		if pcr10 != nil {
			err = errors.Join(err, pcr10.Extend(e))
		}
		if err != nil {
			return fmt.Errorf("IMA log: entry %d: %w", in.Entries-1, err)
		}
		var fields []string
		for _, f := range e.Fields() {
			fields = append(fields, f.Text)
		}
		each(LoggedEvent{"ima", int(in.Entries - 1), fmt.Sprintf("pcr%d", e.PCR), e.Template(), e.TemplateHash(), Printable(strings.Join(fields, " "))})
	}
	if in.Entries == 0 && len(raw) > 0 {
		return fmt.Errorf("IMA log: no entry in it: %w", in.LastSkip())
	}
	r.Registers[2] = [48]byte(rtmr2.Value())
	if pcr10 != nil {
		r.PCR10 = pcr10.Value()
	}
	r.IMAEntries, r.IMAViolations, r.Skipped, r.Mismatched = in.Entries, in.Violations, in.Skipped, in.Mismatched
	return nil
}

func (r *Replayed) runtime(raw []byte, each func(LoggedEvent)) error {
	for record, err := range logs.UnverifiedRuntimeRecords(bytes.NewReader(raw)) {
		if err != nil {
			return err
		}
		if record.Before != nil {
			r.told = true
			if r.agreed == r.RuntimeEvents && *record.Before == r.Registers[3] &&
				*record.After == logs.Extend(r.Registers[3], record.Digest) {
				r.agreed++
			}
		}
		r.besides = r.besides || record.RTMR != 3
		r.Registers[record.RTMR] = logs.Extend(r.Registers[record.RTMR], record.Digest)
		kind, detail := runtimeWords(record)
		each(LoggedEvent{"runtime", r.RuntimeEvents, fmt.Sprintf("rtmr%d", record.RTMR), kind, record.Digest[:], detail})
		r.RuntimeEvents++
		r.values = append(r.values, r.Registers[3])
	}
	return nil
}

func runtimeWords(r logs.RuntimeRecord) (kind, detail string) {
	switch {
	case r.Event != nil && r.Event.Container != "":
		return r.Event.Operation, Printable(short(r.Event.Container) + " " + string(r.Event.Body()))
	case r.Event != nil:
		return r.Event.Operation, Printable(string(r.Event.Body()))
	case r.Data == nil:
		return "?", "only its digest is shown"
	}
	if a, err := boot.ParseAAEL(r.Data); err == nil {
		return Printable(a.Domain + " " + a.Operation), Printable(a.Content)
	}
	return "event", Printable(string(r.Data))
}

// Disagreement says where the runtime log's records contradict themselves:
// they carry RTMR3 as the writer read it. "" where they don't.
func (r *Replayed) Disagreement() string {
	if !r.told || r.agreed == r.RuntimeEvents {
		return ""
	}
	return fmt.Sprintf("runtime event %d doesn't lead from the RTMR3 before it to the one after it; those before it agree", r.agreed)
}

// LastAgreement is how many runtime events log and register agree on: up to
// the value given, or, without one, as the records themselves say. False where
// that is not known.
func (r *Replayed) LastAgreement(rtmr3 *hw.Digest) (events int, known bool) {
	if rtmr3 == nil {
		return r.agreed, r.told
	}
	for i := len(r.values) - 1; i >= 0 && r.hasRuntime; i-- {
		if r.values[i] == *rtmr3 {
			return i, true
		}
	}
	return 0, false
}

// Match is a register of a quote or TDREPORT beside its replay.
type Match struct {
	Name         string // "rtmr0"…"rtmr3"
	Quoted       hw.Digest
	Replayed     hw.Digest
	Agrees       bool
	WithoutIMA   bool // it agrees, but IMA's entries extended nothing
	NothingKnown bool // no log given speaks of it: not compared
}

// Against compares the replay with registers that hardware gave, those that a
// log speaks of. RTMR3 that is zero needs no log.
func (r *Replayed) Against(quoted hw.Registers) []Match {
	matches := make([]Match, 0, 4)
	for i, want := range quoted.RTMR {
		m := Match{Name: fmt.Sprintf("rtmr%d", i), Quoted: want, Replayed: r.Registers[i]}
		m.Agrees = m.Quoted == m.Replayed
		if i == 2 && r.hasIMA && !m.Agrees && r.hasBoot && want == r.Booted[2] {
			m.Agrees, m.WithoutIMA, m.Replayed = true, true, r.Booted[2]
		}
		speaks := r.hasBoot || i == 2 && r.hasIMA
		if i == 3 {
			speaks = r.hasRuntime || r.seesRTMR3 || m.Agrees && r.hasBoot
		}
		m.NothingKnown = !speaks
		matches = append(matches, m)
	}
	return matches
}

// UnverifiedRegisters reads the registers out of the quote or TDREPORT among
// the files; nobody has checked that hardware made them.
func (f Files) UnverifiedRegisters() (hw.Registers, error) {
	switch {
	case f.Quote != nil:
		q, _, err := cutQuote(f.Quote)
		if err != nil {
			return hw.Registers{}, err
		}
		return q.Registers, nil
	case f.TDReport != nil:
		return reportRegisters(f.TDReport)
	}
	return hw.Registers{}, errors.New("neither quote nor TDREPORT is given")
}

// cutQuote reads a quote at the head of a buffer and says how many bytes are
// behind it.
func cutQuote(buffer []byte) (q *Quote, behind int, err error) {
	n, err := QuoteLength(buffer)
	if err != nil {
		return nil, 0, err
	}
	if q, err = ParseQuote(buffer[:n]); err != nil {
		return nil, 0, fmt.Errorf("quote: %w", err)
	}
	return q, len(buffer) - n, nil
}

// Layout of a TDREPORT (Intel TDX Module ABI, TDREPORT_STRUCT), in bytes.
const (
	reportSize = 1024
	reportMRTD = 528
	reportRTMR = 720
)

func reportRegisters(report []byte) (r hw.Registers, err error) {
	if len(report) != reportSize {
		return r, fmt.Errorf("a TDREPORT has %d bytes, not %d", reportSize, len(report))
	}
	r.MRTD = hw.Digest(report[reportMRTD:])
	for i := range r.RTMR {
		r.RTMR[i] = hw.Digest(report[reportRTMR+48*i:])
	}
	return r, nil
}
