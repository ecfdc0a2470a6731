package replay

import (
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
)

// Match is a register of a quote or TDREPORT, compared with its replay.
type Match struct {
	Name         string // "rtmr0"…"rtmr3"
	Quoted       hw.Digest
	Replayed     hw.Digest
	Agrees       bool
	WithoutIMA   bool // it agrees, but with the boot log alone: IMA's entries extended nothing
	NothingKnown bool // no log given speaks of it: not compared
}

// Against compares the replay with RTMR0–3 of a quote or TDREPORT, those that a
// log given speaks of. RTMR3 needs no log where it is zero.
func (r *Replayed) Against(quoted hw.Registers) []Match {
	hasBoot, hasIMA := r.files.BootLog != nil, r.files.IMALog != nil
	matches := make([]Match, 0, 4)
	for i, want := range quoted.RTMR {
		m := Match{Name: fmt.Sprintf("rtmr%d", i), Quoted: want, Replayed: r.Registers[i]}
		m.Agrees = m.Quoted == m.Replayed
		if i == 2 && hasIMA && !m.Agrees && hasBoot && want == r.Booted[2] {
			m.Agrees, m.WithoutIMA, m.Replayed = true, true, r.Booted[2]
		}
		speaks := hasBoot || i == 2 && hasIMA
		if i == 3 {
			speaks = r.files.RuntimeLog != nil || r.seesRTMR3 || m.Agrees && hasBoot
		}
		m.NothingKnown = !speaks
		matches = append(matches, m)
	}
	return matches
}

// UnverifiedRegisters reads the registers out of the quote or TDREPORT among
// the files. It does not check that hardware made them.
func (f Files) UnverifiedRegisters() (hw.Registers, error) {
	switch {
	case f.Quote != nil:
		quote, _ := dcap.Plain(f.Quote)
		q, _, err := dcap.CutQuote(quote)
		if err != nil {
			return hw.Registers{}, err
		}
		return q.Registers, nil
	case f.TDReport != nil:
		return reportRegisters(f.TDReport)
	}
	return hw.Registers{}, errors.New("neither quote nor TDREPORT is given")
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
