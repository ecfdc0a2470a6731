package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs/boot"
)

// Booted is what the boot itself left: its log, where that replays to the quote's
// registers, and RTMR0–2 before the operating system extended them.
type Booted struct {
	Log     *boot.Log // nil where there is none, or another
	MRTD    hw.Digest
	RTMR    [3]hw.Digest
	Further bool // the operating system's log, or another, comes after the boot log
	Begun   bool // and it shows that it begins where the boot ended

	Measurement *hw.Digest // of an SNP guest, which has no registers; nil of a TD
	PCRs        [][]byte   // of a TPM in the paravisor, as quoted; nil without one
	RTMR3       hw.Digest  // of a TD with such a TPM
	InPCR       bool       // one of them holds the runtime log
	LogPCR      int        // which, where it held nothing before; else -1
}

// Boot is a boot that a policy knows.
type Boot struct {
	Name     string   `json:"name"`
	Firmware string   `json:"firmware,omitempty"`
	System   string   `json:"system,omitempty"`
	Measured string   `json:"measured,omitempty"` // of an SNP guest, in place of both
	VTPM     string   `json:"vtpm,omitempty"`     // of a TPM in the paravisor, in place of both
	Gaps     []string `json:"-"`                  // codes of what no register covers

	wishes codes.Wishes
}

// Words say who is known to have written what: the agent too only where something
// covers the root file system.
func (b *Boot) Words() string {
	if slices.Contains(b.Gaps, codes.BootFirmware) {
		return fmt.Sprintf("you know who wrote the firmware, and nothing of what it booted: the boot %q in the policy", b.Name)
	}
	if codes.BootOpen(b.Gaps) {
		return fmt.Sprintf("you know what the policy names of firmware, kernel and agent, and not what was booted beside it: the boot %q in the policy", b.Name)
	}
	if slices.Contains(b.Gaps, codes.Root) {
		return fmt.Sprintf("you know who wrote firmware, kernel and initrd, and not who wrote the agent: the boot %q in the policy", b.Name)
	}
	return fmt.Sprintf("you know who wrote firmware, kernel and agent: the boot %q in the policy", b.Name)
}

// Fits says of which values it is.
func (b *Boot) Fits() string {
	if b.VTPM != "" {
		return fmt.Sprintf("paravisor and PCRs are those of the boot %q: vtpm %s", b.Name, b.VTPM)
	}
	if b.Measured != "" {
		return fmt.Sprintf("MEASUREMENT is that of the boot %q: measured %s", b.Name, b.Measured)
	}
	return fmt.Sprintf("MRTD and RTMR0–2 are those of the boot %q: firmware %s, system %s", b.Name, b.Firmware, b.System)
}

// Boots is what a policy says of a boot.
type Boots struct {
	Known   []Boot   // those that fit, in the policy's order; one for each [[boot]]
	Nearest string   // where none fits: the [[boot]] that differs least
	Differ  []string // and how
}

// JudgeBoot holds a boot against [[boot]]. Each firmware and each system is compared
// once, however many [[boot]] name it. It fails where that is too much work.
func (p *Policy) JudgeBoot(now Booted, at time.Time) (Boots, error) {
	j := &bootJudge{p: p, now: now, at: at, firmware: make(map[string]*judged), system: make(map[string]*judged), work: match.NewMeter(p.bytes)}
	if now.Log != nil {
		j.log = indexLog(now.Log)
		j.work.Allow(now.Log.Len())
	}
	var found Boots
	least := 1 << 30
	var nearest []difference
	for _, b := range p.boots {
		known, differ := j.judge(b)
		if known != nil {
			found.Known = append(found.Known, *known)
		} else if n := len(differ) + b.otherKind(now); n < least {
			nearest, found.Nearest, least = differ, b.name, n
		}
		if j.work.TooMuch() {
			return found, errTooMuch
		}
	}
	if found.Known != nil {
		found.Nearest = ""
		return found, nil
	}
	for _, d := range nearest {
		found.Differ = append(found.Differ, d())
	}
	return found, nil
}

// otherKind is more than a boot can differ in, where it is of another kind of guest.
func (b *bootRule) otherKind(now Booted) int {
	if b.kind() != now.kind() {
		return 1 << 20
	}
	return 0
}

// Kinds of guests, by where their boot is measured, for people.
const (
	ofTD    = "a TD"
	ofGuest = "an SNP guest"
	ofTPM   = "a VM with a TPM in its paravisor"
)

func (b *bootRule) kind() string { return kindOf(len(b.vtpm) > 0, len(b.measured) > 0) }

func (b *Booted) kind() string { return kindOf(b.PCRs != nil, b.Measurement != nil) }

func kindOf(tpm, guest bool) string {
	switch {
	case tpm:
		return ofTPM
	case guest:
		return ofGuest
	}
	return ofTD
}

type bootJudge struct {
	p                *Policy
	now              Booted
	at               time.Time
	log              *[3]eventsOf
	firmware, system map[string]*judged
	work             *match.Meter
}

// judged is how a firmware or a system differs, not at all where that is empty.
type judged struct{ differ []difference }

func (j *bootJudge) judge(b *bootRule) (known *Boot, differ []difference) {
	j.work.Add(1)
	out := b.out(j.at)
	switch {
	case b.kind() != j.now.kind():
		return nil, []difference{said(fmt.Sprintf("it is the boot of %s, and this is %s", b.kind(), j.now.kind()))}
	case b.kind() == ofGuest:
		return j.judgeMeasured(b)
	case b.kind() == ofTPM:
		return j.judgeVTPM(b)
	}
	firmware, differ := nearest(b.firmware, func(name string) []difference { return j.memo(j.firmware, name, j.judgeFirmware) })
	system, more := nearest(b.system, func(name string) []difference { return j.memo(j.system, name, j.judgeSystem) })
	if differ = append(slices.Clone(differ), more...); len(differ) == 0 && out != "" {
		differ = []difference{said(fmt.Sprintf("boot %q %s", b.name, out))}
	}
	if len(differ) > 0 {
		return nil, differ
	}
	s := j.p.systems[system]
	known = &Boot{Name: b.name, Firmware: firmware, System: system, Gaps: slices.Clone(s.gaps), wishes: codes.Wishes{b.Wish, s.Wish}}
	if j.p.firmwares[firmware].rtmr0.open() {
		known.Gaps = append(known.Gaps, codes.FirmwareVaries)
	}
	return known, nil
}

// nearest is the first name that differs in nothing, else the one that differs least.
func nearest(names []string, differs func(string) []difference) (name string, differ []difference) {
	for i, n := range names {
		d := differs(n)
		if i == 0 || len(d) < len(differ) {
			name, differ = n, d
		}
		if len(differ) == 0 {
			return name, nil
		}
	}
	return name, differ
}

func (j *bootJudge) memo(of map[string]*judged, name string, judge func(string) []difference) []difference {
	j.work.Add(1)
	if of[name] == nil {
		of[name] = &judged{judge(name)}
	}
	return of[name].differ
}

func (j *bootJudge) events(rtmr int) *eventsOf {
	if j.log == nil {
		return nil
	}
	return &j.log[rtmr]
}

func (j *bootJudge) judgeFirmware(name string) (differ []difference) {
	f := j.p.firmwares[name]
	if !slices.Contains(f.mrtd, j.now.MRTD.String()) {
		differ = append(differ, func() string { return fmt.Sprintf("MRTD is %s, want %s", j.now.MRTD, tables.Or(f.mrtd)) })
	}
	j.work.Add(len(f.mrtd))
	return j.add(differ, f.rtmr0, 0, f.validity, "firmware "+name)
}

// judgeMeasured holds an SNP guest's launch measurement against those of a [[boot]].
func (j *bootJudge) judgeMeasured(b *bootRule) (known *Boot, differ []difference) {
	got := j.now.Measurement.String()
	for _, name := range b.measured {
		m := j.p.measured[name]
		j.work.Add(len(m.measurements))
		if !slices.Contains(m.measurements, got) {
			differ = append(differ, func() string { return fmt.Sprintf("MEASUREMENT is %s, want %s", got, tables.Or(m.measurements)) })
			continue
		}
		if out := m.out(j.at); out != "" {
			return nil, []difference{said("measured " + name + " " + out)}
		}
		if out := b.out(j.at); out != "" {
			return nil, []difference{said(fmt.Sprintf("boot %q %s", b.name, out))}
		}
		return &Boot{Name: b.name, Measured: name, Gaps: slices.Clone(m.gaps), wishes: codes.Wishes{b.Wish, m.Wish}}, nil
	}
	return nil, differ
}

func (j *bootJudge) judgeSystem(name string) (differ []difference) {
	s := j.p.systems[name]
	switch {
	case j.now.Further && !s.osLog:
		differ = append(differ, said("the operating system extended RTMR2 after the boot, and os_log is not true"))
	case j.now.Further && !j.now.Begun:
		differ = append(differ, said("the log of the operating system is not IMA's, from its boot_aggregate on"))
	}
	differ = j.add(differ, s.rtmr1, 1, validity{}, "")
	differ = j.add(differ, s.rtmr2, 2, s.validity, "system "+name)
	return append(differ, j.line(s)...)
}

// add holds one register, and the validity of what names it.
func (j *bootJudge) add(differ []difference, want register, rtmr int, v validity, what string) []difference {
	if d := want.differs(fmt.Sprintf("RTMR%d", rtmr), j.now.RTMR[rtmr], j.events(rtmr), j.work); d != nil {
		differ = append(differ, d)
	}
	if out := v.out(j.at); out != "" {
		differ = append(differ, said(what+" "+out))
	}
	return differ
}

// line looks for the command line among the events of RTMR2: a policy says what it is,
// and the register has more in it.
func (j *bootJudge) line(s *system) []difference {
	if s.line == nil {
		return nil
	}
	if j.log == nil {
		return []difference{said("the command line is not shown: there is no boot log")}
	}
	for _, d := range s.line.Digests() {
		if len(j.log[2].places[d]) > 0 {
			return nil
		}
	}
	return []difference{said(fmt.Sprintf("no event of RTMR2 is the command line %q", tables.Clip(s.line.Text)))}
}

func said(text string) difference { return func() string { return text } }

// Differences are those of the nearest boot, in one line.
func (b Boots) Differences() string { return strings.Join(b.Differ, "; ") }
