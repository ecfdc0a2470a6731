package replay

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// OSReplay is what a replay of the operating system's logs met.
type OSReplay struct {
	Entries    int64 // shown
	Hidden     int64 // of which only the digest is shown
	Violations int64 // among those shown: no digest proves what they say

	rtmr2 *ima.Register
}

// OSLogs replays the logs in evidence that extended registers after the boot
// log: IMA's list, where the kernel extends RTMR2 for it. Runs of entries
// alternate with runs of digests, which stand for entries that the caller may not
// see. registers hold what the boot log left, and then what these logs come to.
func OSLogs(list []rpc.OSLog, registers *boot.Registers) (*OSReplay, error) {
	r := &OSReplay{rtmr2: ima.NewRTMR2(registers[2])}
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

// digests replays a run of digests.
func (r *OSReplay) digests(run []byte) error {
	if len(run)%48 != 0 {
		return fmt.Errorf("IMA log: digests of 48 bytes are no %d bytes", len(run))
	}
	for ; len(run) > 0; run = run[48:] {
		r.rtmr2.ExtendDigest([48]byte(run))
		r.Hidden++
	}
	return nil
}

// lines replays entries. A digest must cover every byte of them, so they must be
// in the kernel's own form.
func (r *OSReplay) lines(text []byte) error {
	reader := ima.NewReader(bytes.NewReader(text))
	reader.Check = true
	rest := text
	for e, err := range reader.UnverifiedEntries() {
		if err != nil {
			return fmt.Errorf("IMA log: %w", err)
		}
		at := r.Entries + r.Hidden + reader.Entries - 1
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
	r.Entries += reader.Entries
	r.Violations += reader.Violations
	return nil
}

// asKernelWrites reports whether an entry's text is the one that the kernel makes
// of the bytes under the template hash. Upper-case hex, for example, is another.
func asKernelWrites(e *ima.Entry) bool {
	data, err := e.AppendTemplateData(nil)
	if err != nil {
		return false
	}
	const pcr = "\x02\x00\x00\x00" // any will do: lines checked the entry's own
	record := append([]byte(pcr), e.TemplateHash()...)
	for _, part := range [][]byte{[]byte(e.Template()), data} {
		record = binary.LittleEndian.AppendUint32(record, uint32(len(part)))
		record = append(record, part...)
	}
	again, err := ima.NewReader(bytes.NewReader(record)).Next()
	return err == nil && again.String()[len(" 2"):] == e.String()[len("10"):]
}

// BeginsIMA reports whether an IMA log begins as the kernel begins it, with the
// entry boot_aggregate. In a log that begins otherwise, events of the boot could
// be hidden as digests: RTMR2 is the same, and a boot log that is cut before them
// replays to what a policy knows.
func BeginsIMA(log []byte) bool {
	reader := ima.NewReader(bytes.NewReader(log))
	reader.Check = true
	e, err := reader.Next()
	return err == nil && reader.Mismatched+reader.Unchecked+reader.Skipped == 0 && e.BootAggregate()
}
