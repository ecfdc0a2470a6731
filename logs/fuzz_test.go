package logs

import (
	"bytes"
	"crypto"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
)

// bounded fails where f allocates more than four times its input, and what
// a reader needs whatever it reads.
func bounded(t *testing.T, input int, f func()) {
	t.Helper()
	const fixed = 64 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(4*input+fixed) {
		t.Errorf("%d bytes allocated for an input of %d", used, input)
	}
}

// The worst that was thought of, at a size where it would show.
func TestAllocationIsBounded(t *testing.T) {
	const size = 256 << 10
	ima := everyTemplate()[1].ascii(crypto.SHA1)
	for _, unit := range []string{
		"\n", "x\n", "1 \n", "[", "[[],", "{\"a\":", "0,", "1.5,", "{},", "\x00", "\xff", `"\u0000",`,
		"10 " + strings.Repeat("a", 40) + " ima-ng \n", "10 " + strings.Repeat("a", 40) + " ima a\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng a b\n10 " + strings.Repeat("a", 40) + " ima-buf a b c\n",
		strings.Replace(ima, "e", "f", 1), everyTemplate()[11].ascii(crypto.SHA1),
		everyTemplate()[1].binary(crypto.SHA1), everyTemplate()[11].binary(crypto.SHA1),
		strings.Repeat("{", 100) + "\n", "{\"digests\":[" + strings.Repeat("{},", 30) + "{}]}\n",
		"{\"" + strings.Repeat("V\xa7", 15<<10) + "\":1}\n", "{\"" + strings.Repeat("Vé", 15<<10) + "\" :1}\n",
		string(AppendCELJSON(nil, CELRecord{})) + "\n",
		`{"rtmr":"","pcr":"","digests":[1,1,1,1,1,1,1,1,1],"recnum":"","content_type":1,"content":{}    }` + "\n",
		"{" + strings.Repeat(`"digests":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],`, 1000) + "\"a\":1}\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng sha1:00 " + strings.Repeat("x", 140_000) + "\n",
		growingEntries(50_000, 50_100, 100_200), growingEntries(100, 170, 250, 350, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000),
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		for name, parse := range map[string]func(){
			"IMA": func() { NewIMAReader(bytes.NewReader(b)).Replay(NewRTMR2([48]byte{})) },
			"IMA checked": func() {
				r := NewIMAReader(bytes.NewReader(b))
				r.Check = true
				r.Replay(NewPCR(AlgSHA256, 10))
			},
			"CEL":      func() { var r Registers; replayCEL(bytes.NewReader(b), &r) },
			"event":    func() { ParseEvent(rawEvent("cima seal " + string(b[:min(len(b), MaxEvent-32)]))) },
			"boot log": func() { ParseBootLog(append(EncodeBootLog(nil), b...)) },
		} {
			t.Run(name, func(t *testing.T) {
				input := len(b)
				switch name {
				case "event", "boot log":
					input *= 2 // the test itself makes copies
				}
				bounded(t, input, parse)
				if t.Failed() {
					t.Logf("%.80q", unit)
				}
			})
		}
	}
}

func growingEntries(sizes ...int) (log string) {
	for _, n := range sizes {
		log += "10 " + strings.Repeat("a", 40) + " ima-ng sha1:00 " + strings.Repeat("x", n) + "\n"
	}
	return log
}

func FuzzParseBootLog(f *testing.F) {
	for _, name := range []string{"CCEL_unpadded.data.bin", "cos-113-intel-tdx.bin", "gdc-tdx.bin", "ubuntu-2404-intel-tdx.bin", "event_log.bin"} {
		f.Add(smallLog(f, moduleCCEL(f, name)))
	}
	f.Add(EncodeBootLog(someEvents()))
	f.Add(logOf([]AlgID{AlgSHA256, 0x777, AlgSHA384}, []int{32, 5, 48}, digest(AlgSHA256, 32, 1), digest(0x777, 5, 2), digest(AlgSHA384, 48, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var log *BootLog
		var err error
		bounded(t, len(b), func() { log, err = ParseBootLog(b) })
		if err != nil {
			return
		}
		checkBootLog(t, log, b)
	})
}

// smallLog keeps of a real log the header and, of its events, each that is
// small: the fuzzer gets nowhere with 50 KB of signature lists.
func smallLog(f *testing.F, raw []byte) []byte {
	log := mustParse(f, raw)
	b := bytes.Clone(raw[:log.header.size])
	for _, e := range log.UnverifiedEvents() {
		if len(e.Data) < 300 && len(b) < 4096 {
			b = AppendBootEvent(b, e)
		}
	}
	return append(b, logEnd...)
}

// checkBootLog holds what must be true of any log that parses.
func checkBootLog(t *testing.T, log *BootLog, b []byte) {
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
	registers, err := log.Replay()
	last := Registers{}
	for _, r := range log.UnverifiedSteps() {
		last = r
	}
	if err == nil && registers != last {
		t.Fatal("replay and steps disagree")
	}
	if oracle := oracleEvents(b); oracle != nil && err == nil && len(oracle) == n {
		for i, e := range log.UnverifiedEvents() {
			if e.Type != uint32(oracle[i].Type) || !bytes.Equal(e.Data, oracle[i].Data) {
				t.Fatalf("event %d differs from go-eventlog's", i)
			}
		}
	}
}

// oracleEvents is what go-eventlog makes of a log, nil where it panics or
// refuses.
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

func FuzzIMA(f *testing.F) {
	for _, alg := range imaHashes {
		var ascii, bin string
		for _, k := range everyTemplate() {
			ascii, bin = ascii+k.ascii(alg), bin+k.binary(alg)
		}
		f.Add([]byte(ascii), true)
		f.Add([]byte(bin), true)
		f.Add([]byte(ascii), false)
		f.Add([]byte(bin), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, check bool) {
		r := NewIMAReader(bytes.NewReader(b))
		r.Check = check
		bounded(t, len(b), func() { r.Replay(NewRTMR2([48]byte{})) })
		whole := imaLines(t, bytes.NewReader(b), check)
		if parts := imaLines(t, &growing{data: b}, check); parts != whole {
			t.Errorf("read in pieces:\n%s\nas a whole:\n%s", parts, whole)
		}
	})
}

// imaLines reads a log and writes its entries, each parsed field included.
func imaLines(t *testing.T, src io.Reader, check bool) string {
	r := NewIMAReader(src)
	r.Check = check
	var s strings.Builder
	for e, err := range r.UnverifiedEntries() {
		if err != nil {
			s.WriteString(err.Error())
			break
		}
		e.CgroupPath()
		if e.Matches && e.Violation {
			t.Error("a violation matches")
		}
		s.WriteString(e.String() + "\n")
		if s.Len() > 1<<20 {
			break
		}
	}
	return s.String()
}

func FuzzParseEvent(f *testing.F) {
	for _, op := range operations() {
		f.Add(mustEvent(f, op).Bytes())
	}
	f.Add(rawEvent(`cima exec {"container":"4f","measured":{"exec":{"a":[1,1.5,"\u0000é😀",true,null],"b":{}}},"salt":"` + someSalt + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Event
		var err error
		bounded(t, len(b), func() { e, err = ParseEvent(b) })
		if err != nil {
			return
		}
		if !bytes.Equal(e.Bytes(), b) || e.Digest() != [48]byte(AlgSHA384.sum(nil, b)) {
			t.Fatal("the event is not the bytes it was read from")
		}
		again, err := NewEvent(e.Operation, e.Content)
		if err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("made again: %q, %v", again.Bytes(), err)
		}
		if (e.Body() == nil) != (e.Operation == OpExit) {
			t.Fatalf("body %s", e.Body())
		}
	})
}

// What checkCanonical takes must be what jcs.Transform writes.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,-1.5e-7,1e+21,"\u0000é😀",true,null],"b":{}}`, "{\"\ufb33\":1,\"😀\":2}", `"\b\t\n\f\r\"\\"`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) <= maxDepth {
			sameAsJCS(t, b)
		} else {
			bounded(t, len(b), func() { checkCanonical(b) })
		}
	})
}

func FuzzAAEL(f *testing.F) {
	f.Add([]byte("LEAA\x0a\x00\x00\x00a.b c {\"d\"}"))
	f.Add(mustEvent(f, OpStart).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAAEL(b)
		if text := a.Domain + " " + a.Operation + " " + a.Content; err == nil && text != string(b[tagHeaderLen:]) {
			t.Errorf("%q read as %q", b, text)
		}
	})
}

func FuzzCELRecords(f *testing.F) {
	f.Add(AppendCELJSON(nil, CELRecord{RTMR: 3, Type: EvEventTag, Data: []byte("LEAA")}))
	f.Add([]byte("\x1e{\"rtmr\":2,\"mapped_pcr\":11,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"" + strings.Repeat("ab", 48) + "\"}],\"content_type\":\"systemd\",\"content\":{\"string\":\"x\"}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			var r Registers
			records, skipped := replayCEL(bytes.NewReader(b), &r)
			if records == 0 && r != (Registers{}) || records+skipped > bytes.Count(b, []byte("\n"))+1 {
				t.Errorf("%d records, %d skipped of %q", records, skipped, b)
			}
		})
	})
}

func FuzzEFIVariable(f *testing.F) {
	f.Add([]byte(variable("SecureBoot", "\x01")))
	f.Add([]byte(variable("Boot0005", le(1, 4)+le(len(filePath("\\a.efi")), 2)+utf16le("Linux\x00")+filePath("\\a.efi"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseEFIVariable(b)
		if err == nil && (len(v.Value) > len(b) || len(v.GUID) != 36) {
			t.Errorf("%+v", v)
		}
		for _, typ := range []uint32{EvEFIVariableBoot, EvEFIBootServicesDriver, EvEFIGPTEvent, EvEFIHandoffTables2, EvEFIPlatformFirmwareBlob2, EvEventTag, EvIPL, EvPlatformConfigFlags} {
			e := BootEvent{Type: typ, Data: b}
			if d := e.Detail(); len(d) > 4*maxDetail || strings.ContainsAny(d, "\n\x1b") {
				t.Errorf("%s: %d bytes %.80q", EventTypeName(typ), len(d), d)
			}
		}
	})
}
