package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// osReplay is what a replay of the operating system's logs met.
type osReplay struct {
	rtmr2      *ima.Register
	entries    int64 // shown
	hidden     int64 // of which only the digest is shown
	violations int64 // among those shown: nothing proves what they say
}

// replayOSLogs replays what extended the registers after the boot log: IMA's
// list, where the kernel extends RTMR2 for it. Runs of entries alternate with runs
// of digests, which are of entries that the caller may not see.
func replayOSLogs(list []rpc.OSLog, registers *boot.Registers) (*osReplay, error) {
	r := &osReplay{rtmr2: ima.NewRTMR2(registers[2])}
	for i, l := range list {
		if l.Register != "rtmr2" {
			return nil, fmt.Errorf("a log of the operating system for %q: this version replays those for \"rtmr2\"", l.Register)
		}
		if len(l.Entries) == 0 || i > 0 && l.Format == list[i-1].Format {
			return nil, fmt.Errorf("log %d of the operating system is empty, or goes on with the one before", i)
		}
		var err error
		switch l.Format {
		case rpc.FormatIMA:
			err = r.lines(l.Entries)
		case rpc.FormatIMADigests:
			err = r.digests(l.Entries)
		default:
			err = fmt.Errorf("a log of the operating system as %q: there are %q and %q", l.Format, rpc.FormatIMA, rpc.FormatIMADigests)
		}
		if err != nil {
			return nil, err
		}
	}
	registers[2] = [48]byte(r.rtmr2.Value())
	return r, nil
}

func (r *osReplay) digests(run []byte) error {
	if len(run)%48 != 0 {
		return fmt.Errorf("IMA log: digests of 48 bytes are no %d bytes", len(run))
	}
	for ; len(run) > 0; run = run[48:] {
		r.rtmr2.ExtendDigest([48]byte(run))
		r.hidden++
	}
	return nil
}

// lines replays entries. Every byte of them must be under a digest, so they are
// in the kernel's own form and no other.
func (r *osReplay) lines(text []byte) error {
	reader := ima.NewReader(bytes.NewReader(text))
	reader.Check = true
	rest := text
	for e, err := range reader.UnverifiedEntries() {
		if err != nil {
			return fmt.Errorf("IMA log: %w", err)
		}
		at := r.entries + r.hidden + reader.Entries - 1
		if e.PCR != 2 && e.PCR != 10 {
			return fmt.Errorf("IMA log: entry %d is for register %d, not IMA's 10 or RTMR2", at, e.PCR)
		}
		var same bool
		if rest, same = bytes.CutPrefix(rest, []byte(e.String()+"\n")); !same || !asKernelWrites(e) {
			return fmt.Errorf("IMA log: entry %d is not as the kernel writes it", at)
		}
		if err := r.rtmr2.Extend(e); err != nil {
			return fmt.Errorf("IMA log: entry %d: %w", at, err)
		}
	}
	if bad := reader.Mismatched + reader.Unchecked + reader.Skipped; bad > 0 || len(rest) > 0 {
		return fmt.Errorf("IMA log: %d entries are not what their template hashes say, or no entries", max(bad, 1))
	}
	r.entries += reader.Entries
	r.violations += reader.Violations
	return nil
}

// asKernelWrites says whether an entry's text is the one that the kernel makes
// of the bytes under the template hash: upper-case hex, say, would be another.
func asKernelWrites(e *ima.Entry) bool {
	data, err := e.AppendTemplateData(nil)
	if err != nil {
		return false
	}
	const pcr = "\x02\x00\x00\x00" // any will do; the entry's own was looked at
	record := append([]byte(pcr), e.TemplateHash()...)
	for _, part := range [][]byte{[]byte(e.Template()), data} {
		record = binary.LittleEndian.AppendUint32(record, uint32(len(part)))
		record = append(record, part...)
	}
	again, err := ima.NewReader(bytes.NewReader(record)).Next()
	return err == nil && again.String()[len(" 2"):] == e.String()[len("10"):]
}
