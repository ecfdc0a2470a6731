package logs

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
)

func mustParse(t testing.TB, b []byte) *BootLog {
	t.Helper()
	log, err := ParseBootLog(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestReplayAgreesWithQuote(t *testing.T) {
	const dir = "testing/testdata/ccel/"
	got, err := ReplayBootLog(moduleFile(t, modTDX, dir+"ccel_data.dat"))
	if err != nil {
		t.Fatal(err)
	}
	want := quoteRTMRs(moduleFile(t, modTDX, dir+"cos-113-tdx-quote.dat"))
	if got != want {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if want[0] == [48]byte{} || want[3] != [48]byte{} {
		t.Error("the quote is not the one this test was written for")
	}
}

// Held against google/go-eventlog, event by event. TPM logs are crypto-agile
// too, with other digests.
func TestBootEventsAsGoEventlogReadsThem(t *testing.T) {
	files := []struct {
		name string
		hash register.HashAlg
		alg  AlgID
	}{
		{"ccel/cos-113-intel-tdx.bin", register.HashSHA384, AlgSHA384},
		{"ccel/cos-113-intel-tdx-dupe-separator.bin", register.HashSHA384, AlgSHA384},
		{"ccel/cos-113-intel-tdx-dupe-separator-unpadded.bin", register.HashSHA384, AlgSHA384},
		{"ccel/CCEL_unpadded.data.bin", register.HashSHA384, AlgSHA384},
		{"ccel/event_log.bin", register.HashSHA384, AlgSHA384},
		{"ccel/gdc-tdx.bin", register.HashSHA384, AlgSHA384},
		{"ccel/ubuntu-2404-intel-tdx.bin", register.HashSHA384, AlgSHA384},
		{"ccel/cs251200CCEL", register.HashSHA384, AlgSHA384},
		{"tpm/arch-linux-workstation.bin", register.HashSHA256, AlgSHA256},
		{"tpm/ubuntu-2404-intel-tdx.bin", register.HashSHA384, AlgSHA384},
		{"tpm/cos-125-intel-tdx-secure-boot.bin", register.HashSHA256, AlgSHA256},
	}
	for _, f := range files {
		t.Run(f.name, func(t *testing.T) {
			raw := moduleFile(t, modLog, "testdata/eventlogs/"+f.name)
			oracle, err := tcg.ParseEventLog(raw, tcg.ParseOpts{AllowPadding: true})
			if err != nil {
				t.Fatalf("go-eventlog: %v", err)
			}
			sameEvents(t, mustParse(t, raw), oracle.Events(f.hash), f.alg)
		})
	}
}

func sameEvents(t *testing.T, log *BootLog, want []tcg.Event, alg AlgID) {
	t.Helper()
	if log.Len() != len(want) || len(want) == 0 {
		t.Fatalf("%d events, go-eventlog has %d", log.Len(), len(want))
	}
	for i, e := range log.UnverifiedEvents() {
		w := want[i]
		var digest []byte
		for id, d := range e.Digests() {
			if id == alg {
				digest = d
			}
		}
		if e.MR != w.MRIndex() || e.Type != uint32(w.Type) || !bytes.Equal(e.Data, w.Data) || !bytes.Equal(digest, w.Digest) {
			t.Fatalf("event %d differs:\n got %d %x %x %q\nwant %d %x %x %q", i, e.MR, e.Type, digest, e.Data, w.MRIndex(), w.Type, w.Digest, w.Data)
		}
	}
}

// Where go-eventlog survives, its replay of all registers must agree too.
func TestReplayAsGoEventlogDoes(t *testing.T) {
	for _, name := range []string{"cos-113-intel-tdx.bin", "gdc-tdx.bin", "ubuntu-2404-intel-tdx.bin", "event_log.bin"} {
		raw := moduleCCEL(t, name)
		registers, err := ReplayBootLog(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := oracleReplay(raw, registers); err != nil {
			t.Errorf("%s: go-eventlog does not arrive at our registers: %v", name, err)
		}
		registers[0][0] ^= 1
		if oracleReplay(raw, registers) == nil {
			t.Errorf("%s: go-eventlog takes any register", name)
		}
	}
}

func oracleReplay(raw []byte, registers Registers) error {
	bank := register.RTMRBank{}
	for i := range registers {
		bank.RTMRs = append(bank.RTMRs, register.RTMR{Index: i, Digest: registers[i][:]})
	}
	_, err := tcg.ParseAndReplay(raw, bank.MRs(), tcg.ParseOpts{AllowPadding: true})
	return err
}

func event(mr, typ uint32, data string) BootEvent {
	return BootEvent{MR: mr, Type: typ, Digest: sha512.Sum384([]byte(data)), Data: []byte(data)}
}

func someEvents() []BootEvent {
	return []BootEvent{
		event(0, EvNoAction, "SP800-155 Event3"),
		event(1, EvSeparator, "\x00\x00\x00\x00"),
		event(2, EvEFIAction, "Calling EFI Application from Boot Option"),
		event(3, EvIPL, "kernel_cmdline: /vmlinuz ro\x00"),
		event(3, EvNoAction, "extends nothing"),
		event(1, 0x08000001, "of no known type"),
		event(4, EvEventTag, "LEAA\x05\x00\x00\x00a b c"),
		event(9, EvIPL, "of no known register"),
	}
}

func TestWrittenLogReadsBack(t *testing.T) {
	events := someEvents()
	raw := EncodeBootLog(events)
	for name, padding := range map[string][]byte{
		"none": nil, "OVMF": bytes.Repeat([]byte{0xFF}, 1000), "td-shim": make([]byte, 1000),
		"AAEL's end": []byte(logEnd), "three bytes": {0xFF, 0xFF, 0xFF}, "two zeros": {0, 0},
	} {
		log := mustParse(t, append(bytes.Clone(raw), padding...))
		if log.Len() != len(events) || !bytes.Equal(log.Bytes(), raw) {
			t.Errorf("padding %s: %d events in %d bytes", name, log.Len(), len(log.Bytes()))
		}
		for i, e := range log.UnverifiedEvents() {
			w := events[i]
			if e.MR != w.MR || e.Type != w.Type || e.Digest != w.Digest || !bytes.Equal(e.Data, w.Data) || !e.DigestCoversData() {
				t.Errorf("event %d: %+v", i, e)
			}
		}
	}
	trimmed, err := TrimBootLog(append(bytes.Clone(raw), bytes.Repeat([]byte{0xFF}, 64)...))
	if err != nil || !bytes.Equal(trimmed, raw) {
		t.Errorf("trimmed to %d bytes of %d: %v", len(trimmed), len(raw), err)
	}
}

// The registers, computed here by hand from crypto.SHA384.
func TestReplayExtendsWhatItShould(t *testing.T) {
	log := mustParse(t, EncodeBootLog(someEvents()))
	h := func(register [48]byte, data string) [48]byte {
		d := sha512.Sum384([]byte(data))
		sum := crypto.SHA384.New()
		sum.Write(register[:])
		sum.Write(d[:])
		return [48]byte(sum.Sum(nil))
	}
	var want Registers
	want[0] = h(want[0], "\x00\x00\x00\x00")
	after1 := want
	want[1] = h(want[1], "Calling EFI Application from Boot Option")
	want[2] = h(want[2], "kernel_cmdline: /vmlinuz ro\x00")
	want[0] = h(want[0], "of no known type")
	want[3] = h(want[3], "LEAA\x05\x00\x00\x00a b c")
	got, err := log.Replay()
	if err != nil || got != want {
		t.Errorf("replay: %x, %v\nwant %x", got, err, want)
	}
	steps, last := 0, Registers{}
	for _, registers := range log.UnverifiedSteps() {
		if steps == 1 && registers != after1 {
			t.Errorf("after event 1: %x", registers)
		}
		steps, last = steps+1, registers
	}
	if steps != len(someEvents()) || last != want {
		t.Errorf("%d steps, ending at %x", steps, last)
	}
}

// logOf builds a log whose header declares these algorithms and which holds
// one event of these digests.
func logOf(algs []AlgID, sizes []int, digests ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, EvNoAction)
	b = append(b, make([]byte, 20)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(specIDFixed+4*len(algs)+4))
	b = append(append(b, specIDSignature...), 0, 0, 0, 0, 0, 2, 0, 2)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(algs)))
	for i, a := range algs {
		b = binary.LittleEndian.AppendUint16(b, uint16(a))
		b = binary.LittleEndian.AppendUint16(b, uint16(sizes[i]))
	}
	b = append(b, 3, 'c', 'v', 'm')
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, EvEFIAction)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(digests)))
	for _, d := range digests {
		b = append(b, d...)
	}
	return append(b, 2, 0, 0, 0, 'h', 'i')
}

func digest(alg AlgID, size int, fill byte) []byte {
	return append(binary.LittleEndian.AppendUint16(nil, uint16(alg)), bytes.Repeat([]byte{fill}, size)...)
}

func TestDigestsOfOtherAlgorithms(t *testing.T) {
	const strange AlgID = 0x0777
	algs, sizes := []AlgID{AlgSHA256, strange, AlgSHA384, AlgSHA512}, []int{32, 5, 48, 64}
	log := mustParse(t, logOf(algs, sizes,
		digest(AlgSHA256, 32, 1), digest(strange, 5, 2), digest(AlgSHA384, 48, 3), digest(AlgSHA512, 64, 4)))
	for _, e := range log.UnverifiedEvents() {
		var seen []AlgID
		for id, d := range e.Digests() {
			seen = append(seen, id)
			if len(d) != sizes[len(seen)-1] || d[0] != byte(len(seen)) {
				t.Errorf("digest %s is %x", id, d)
			}
		}
		if len(seen) != 4 || e.Digest != [48]byte(bytes.Repeat([]byte{3}, 48)) || string(e.Data) != "hi" {
			t.Errorf("event %v %x %q", seen, e.Digest, e.Data)
		}
	}
	if string(log.header.vendor) != "cvm" {
		t.Errorf("vendor info %q", log.header.vendor)
	}
	if _, err := mustParse(t, logOf(algs, sizes, digest(AlgSHA256, 32, 1))).Replay(); err == nil {
		t.Error("an event without a SHA-384 digest was replayed")
	}
}

func TestBrokenBootLogs(t *testing.T) {
	good := EncodeBootLog(someEvents())
	with := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+len(b):]...)
	}
	header := mustParse(t, good).header.size
	sha384 := digest(AlgSHA384, 48, 1)
	for want, raw := range map[string][]byte{
		"too few for a spec-id header":          good[:31],
		"not the spec-id header's EV_NO_ACTION": with(4, 4),
		"spec-id header announces":              with(28, 0xFF, 0xFF, 0xFF, 0xFF),
		"not a crypto-agile log":                with(32, 'X'),
		"algorithms in":                         with(56, 200),
		"of vendor info":                        with(64, 9),
		"cut off after 11 bytes":                good[:header+11],
		"size the header doesn't declare":       with(header+12, 0x99, 0x09),
		"list of 4294967295 digests":            append(bytes.Clone(good[:header]), 1, 0, 0, 0, 4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF),
		"cut off in a digest":                   good[:header+40],
		"cut off before its data":               good[:header+64],
		"announces 16 bytes of data, 3 are":     good[:header+69],
		"two SHA-384 digests":                   logOf([]AlgID{AlgSHA384}, []int{48}, sha384, sha384),
		"gives sha384 20 bytes":                 logOf([]AlgID{AlgSHA384}, []int{20}, sha384),
		"lists algorithm 0x0777 twice":          logOf([]AlgID{0x777, 0x777}, []int{4, 8}),
	} {
		if _, err := ParseBootLog(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for n := range good { // cut anywhere: an error, or fewer events, never all
		if log, err := ParseBootLog(good[:n]); err == nil && log.Len() >= len(someEvents()) {
			t.Errorf("cut at %d: %d events", n, log.Len())
		}
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	many := make([]BootEvent, 2000)
	for i := range many {
		many[i] = event(uint32(i%5), EvIPL, "grub_cmd: set a=b")
	}
	for name, raw := range map[string][]byte{"2000 events": EncodeBootLog(many), "1 event": EncodeBootLog(many[:1])} {
		allocs := testing.AllocsPerRun(20, func() {
			log, err := ParseBootLog(raw)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := log.Replay(); err != nil {
				t.Fatal(err)
			}
			for range log.UnverifiedEvents() {
			}
		})
		if allocs > 2 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
