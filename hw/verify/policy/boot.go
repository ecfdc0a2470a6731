package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// BootValues are the registers of one boot that the relying party knows: the
// evidence must have all of one set. RTMR0–2 are known by value, by events, or
// by both.
type BootValues struct {
	Name  string      `toml:"name"` // for people
	MRTD  *rpc.Digest `toml:"mrtd"`
	RTMR0 *rpc.Digest `toml:"rtmr0"`
	RTMR1 *rpc.Digest `toml:"rtmr1"`
	RTMR2 *rpc.Digest `toml:"rtmr2"`

	Events []BootPattern `toml:"events"`

	// OSLog allows that the operating system extended RTMR2 after the boot,
	// by the log in the evidence: RTMR2 is then what the boot left there.
	OSLog bool `toml:"os_log"`
}

// Booted is what the boot itself left: its log, where that replays to the
// quote's registers, and RTMR0–2 before the operating system extended them.
type Booted struct {
	Log     *boot.Log // nil where there is none, or another
	MRTD    hw.Digest
	RTMR    [3]hw.Digest
	Further bool // the operating system's log, or another, comes after the boot log
	Begun   bool // and it shows that it begins where the boot ended
}

// Against compares a boot with the values. It returns what it compared, and a
// name for each value that differs.
func (b BootValues) Against(now Booted) (found Findings, differ []string) {
	if now.Further && !b.OSLog {
		found.Want(false, "log of the operating system", "none", "one that extends RTMR2")
		differ = append(differ, "what the operating system extended RTMR2 with is")
	}
	if now.Further && !now.Begun {
		found.Want(false, "log of the operating system", "IMA's, from its boot_aggregate on", "another, or its begin is a digest")
		differ = append(differ, "the begin of the operating system's log is")
	}
	for _, v := range []struct {
		name string
		want *rpc.Digest
		got  hw.Digest
	}{
		{"MRTD", b.MRTD, now.MRTD},
		{"RTMR0", b.RTMR0, now.RTMR[0]},
		{"RTMR1", b.RTMR1, now.RTMR[1]},
		{"RTMR2", b.RTMR2, now.RTMR[2]},
	} {
		if v.want == nil {
			continue // known by events
		}
		same := *v.want == v.got
		found.Want(same, v.name, v.want.String(), v.got.String())
		if !same {
			differ = append(differ, v.name)
		}
	}
	more, moreDiffer := b.againstEvents(now.Log)
	return append(found, more...), append(differ, moreDiffer...)
}

// againstEvents holds the boot log against the patterns of a boot.
func (b BootValues) againstEvents(log *boot.Log) (found Findings, differ []string) {
	if len(b.Events) == 0 {
		return nil, nil
	}
	if log == nil {
		return nil, []string{"events (there is no boot log)"}
	}
	seen := make([]bool, len(b.Events))
	for i, e := range log.UnverifiedEvents() { // proved by now: they replay to the quote's registers
		rtmr, ok := e.Extends()
		if !ok || !b.hasEvents(rtmr) {
			continue
		}
		fits := false
		for n, p := range b.Events {
			if p.RTMR == rtmr && p.fits(&e) {
				seen[n], fits = true, true
			}
		}
		if !fits {
			what := fmt.Sprintf("boot event %d", i)
			found.Want(false, what, "one of the policy's", fmt.Sprintf("rtmr%d %s %x %s", rtmr, boot.TypeName(e.Type), e.Digest, replay.Clip(e.Detail(), 100)))
			differ = append(differ, what)
		}
	}
	for n, p := range b.Events {
		if !seen[n] && !p.Optional {
			found.Want(false, "boot event "+p.String(), "there", "not there")
			differ = append(differ, "event "+p.String())
		}
	}
	return found, differ
}

func (b BootValues) hasEvents(rtmr int) bool {
	return slices.ContainsFunc(b.Events, func(p BootPattern) bool { return p.RTMR == rtmr })
}

// check refuses values that leave a register of the boot open.
func (b BootValues) check() error {
	if b.MRTD == nil {
		return errors.New("mrtd must be there: without it, no value covers the firmware")
	}
	for i, v := range []*rpc.Digest{b.RTMR0, b.RTMR1, b.RTMR2} {
		if v == nil && !slices.ContainsFunc(b.Events, func(p BootPattern) bool { return p.RTMR == i && !p.Optional && !p.Any }) {
			return fmt.Errorf("rtmr%d must be there, as a value or by events that are not all optional: without it, nothing covers that part of the boot", i)
		}
	}
	for _, p := range b.Events {
		if err := p.check(); err != nil {
			return fmt.Errorf("event %s: %w", p, err)
		}
	}
	return nil
}

// Title is the boot's name as messages show it.
func (b BootValues) Title() string {
	if b.Name == "" {
		return "without a name"
	}
	return fmt.Sprintf("%q", b.Name)
}
