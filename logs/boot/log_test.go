package boot

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/logstest"
)

func mustParse(t testing.TB, b []byte) *Log {
	t.Helper()
	log, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Each event must be as google/go-eventlog reads it. TPM logs have the same form, with
// other digests.
func TestBootEventsAsGoEventlogReadsThem(t *testing.T) {
	files := []struct {
		name string
		hash register.HashAlg
		alg  alg.ID
	}{
		{"ccel/cos-113-intel-tdx.bin", register.HashSHA384, alg.SHA384},
		{"ccel/cos-113-intel-tdx-dupe-separator.bin", register.HashSHA384, alg.SHA384},
		{"ccel/cos-113-intel-tdx-dupe-separator-unpadded.bin", register.HashSHA384, alg.SHA384},
		{"ccel/CCEL_unpadded.data.bin", register.HashSHA384, alg.SHA384},
		{"ccel/event_log.bin", register.HashSHA384, alg.SHA384},
		{"ccel/gdc-tdx.bin", register.HashSHA384, alg.SHA384},
		{"ccel/ubuntu-2404-intel-tdx.bin", register.HashSHA384, alg.SHA384},
		{"ccel/cs251200CCEL", register.HashSHA384, alg.SHA384},
		{"tpm/arch-linux-workstation.bin", register.HashSHA256, alg.SHA256},
		{"tpm/ubuntu-2404-intel-tdx.bin", register.HashSHA384, alg.SHA384},
		{"tpm/cos-125-intel-tdx-secure-boot.bin", register.HashSHA256, alg.SHA256},
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

func sameEvents(t *testing.T, log *Log, want []tcg.Event, alg alg.ID) {
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

func event(mr, typ uint32, data string) Event {
	return Event{MR: mr, Type: typ, Digest: sha512.Sum384([]byte(data)), Data: []byte(data)}
}

func someEvents() []Event {
	return []Event{
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

// logOf returns a log whose header declares these algorithms, with one event of these
// digests.
func logOf(algs []alg.ID, sizes []int, digests ...[]byte) []byte {
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

func digest(alg alg.ID, size int, fill byte) []byte {
	return append(binary.LittleEndian.AppendUint16(nil, uint16(alg)), bytes.Repeat([]byte{fill}, size)...)
}

func TestDigestsOfOtherAlgorithms(t *testing.T) {
	const strange alg.ID = 0x0777
	algs, sizes := []alg.ID{alg.SHA256, strange, alg.SHA384, alg.SHA512}, []int{32, 5, 48, 64}
	log := mustParse(t, logOf(algs, sizes,
		digest(alg.SHA256, 32, 1), digest(strange, 5, 2), digest(alg.SHA384, 48, 3), digest(alg.SHA512, 64, 4)))
	for _, e := range log.UnverifiedEvents() {
		var seen []alg.ID
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
	if _, err := mustParse(t, logOf(algs, sizes, digest(alg.SHA256, 32, 1))).Replay(); err == nil {
		t.Error("an event without a SHA-384 digest was replayed")
	}
}

func TestBrokenLogs(t *testing.T) {
	good := Encode(someEvents())
	with := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+len(b):]...)
	}
	header := mustParse(t, good).header.size
	sha384 := digest(alg.SHA384, 48, 1)
	for want, raw := range map[string][]byte{
		"cut off after 11 bytes":              good[:header+11],
		"size must be declared in the header": with(header+12, 0x99, 0x09),
		"list of 4294967295 digests":          append(bytes.Clone(good[:header]), 1, 0, 0, 0, 4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF),
		"cut off in a digest":                 good[:header+40],
		"cut off before its data":             good[:header+64],
		"announces 16 bytes of data, but 3":   good[:header+69],
		"two SHA-384 digests":                 logOf([]alg.ID{alg.SHA384}, []int{48}, sha384, sha384),
	} {
		if _, err := Parse(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for n := range good { // cut anywhere: an error, or fewer events, never all
		if log, err := Parse(good[:n]); err == nil && log.Len() >= len(someEvents()) {
			t.Errorf("cut at %d: %d events", n, log.Len())
		}
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	many := make([]Event, 2000)
	for i := range many {
		many[i] = event(uint32(i%5), EvIPL, "grub_cmd: set a=b")
	}
	for name, raw := range map[string][]byte{"2000 events": Encode(many), "1 event": Encode(many[:1])} {
		allocs := testing.AllocsPerRun(20, func() {
			log, err := Parse(raw)
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

func FuzzParse(f *testing.F) {
	for _, name := range []string{"CCEL_unpadded.data.bin", "cos-113-intel-tdx.bin", "gdc-tdx.bin", "ubuntu-2404-intel-tdx.bin", "event_log.bin"} {
		f.Add(smallLog(f, moduleCCEL(f, name)))
	}
	f.Add(Encode(someEvents()))
	f.Add(logOf([]alg.ID{alg.SHA256, 0x777, alg.SHA384}, []int{32, 5, 48}, digest(alg.SHA256, 32, 1), digest(0x777, 5, 2), digest(alg.SHA384, 48, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var log *Log
		var err error
		logstest.Bounded(t, len(b), func() { log, err = Parse(b) })
		if err != nil {
			return
		}
		checkBootLog(t, log, b)
	})
}

// smallLog is the header and the small events of a real log: 50 KB of signature lists slow
// the fuzzer down.
func smallLog(f *testing.F, raw []byte) []byte {
	log := mustParse(f, raw)
	b := bytes.Clone(raw[:log.header.size])
	for _, e := range log.UnverifiedEvents() {
		if len(e.Data) < 300 && len(b) < 4096 {
			b = AppendEvent(b, e)
		}
	}
	return append(b, logEnd...)
}

// checkBootLog checks what must be true of every log that is read without an error.
func checkBootLog(t *testing.T, log *Log, b []byte) {
	if !bytes.HasPrefix(b, log.Bytes()) {
		t.Fatal("the log is not the head of its input")
	}
	again := mustParse(t, log.Bytes())
	n := 0
	for _, e := range log.UnverifiedEvents() {
		n++
		e.Detail()
		for range e.Digests() {
		}
	}
	if n != log.Len() || again.Len() != n || len(again.Bytes()) != len(log.Bytes()) {
		t.Fatalf("%d events, %d announced, %d when read again", n, log.Len(), again.Len())
	}
	_, err := log.Replay()
	if oracle := oracleEvents(b); oracle != nil && err == nil && len(oracle) == n {
		for i, e := range log.UnverifiedEvents() {
			if e.Type != uint32(oracle[i].Type) || !bytes.Equal(e.Data, oracle[i].Data) {
				t.Fatalf("event %d differs from go-eventlog's", i)
			}
		}
	}
}

// oracleEvents are the events as go-eventlog reads them, nil where it panics or refuses.
func oracleEvents(b []byte) (events []tcg.Event) {
	defer func() {
		if recover() != nil {
			events = nil
		}
	}()
	log, err := tcg.ParseEventLog(b, tcg.ParseOpts{AllowPadding: true})
	if err != nil {
		return nil
	}
	return log.Events(register.HashSHA384)
}

// Inputs that could cost most, at a size where it would show.
func TestAllocationIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{"\n", "\x00", "\xff", string(AppendEvent(nil, Event{}))} {
		b := append(Encode(nil), strings.Repeat(unit, size/len(unit))...)
		logstest.Bounded(t, len(b), func() { Parse(b) })
		logstest.Bounded(t, len(b), func() { Replay(b) })
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
