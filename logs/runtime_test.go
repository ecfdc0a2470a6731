package logs

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
)

const someSalt = "AAECAwQFBgcICQoLDA0ODw=="

func mustEvent(t testing.TB, operation string) Event {
	t.Helper()
	c := Content{Measured: json.RawMessage(`{"` + operation + `":{"path":"/usr/bin/true","n":1}}`)}
	if !Public(operation) {
		c.Container, c.Salt = "4f5e", someSalt
	}
	if operation == OpExit {
		c.Measured = nil
	}
	e, err := NewEvent(operation, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func operations() []string {
	return []string{OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpLaunch, OpImage, OpExec, OpExtend, OpExit, OpMissed, OpIMA}
}

func TestEventsReadBack(t *testing.T) {
	for _, op := range operations() {
		e := mustEvent(t, op)
		back, err := ParseEvent(e.Bytes())
		if err != nil {
			t.Errorf("%s: %v", op, err)
			continue
		}
		if back.Operation != op || back.Container != e.Container || back.Salt != e.Salt || !bytes.Equal(back.Measured, e.Measured) {
			t.Errorf("%s: %+v is not %+v", op, back, e)
		}
		if a, err := boot.ParseAAEL(e.Bytes()); err != nil || a.Domain != domain || a.Operation != op || !strings.HasPrefix(a.Content, "{") {
			t.Errorf("%s: as AAEL %+v, %v", op, a, err)
		}
		body := `{"n":1,"path":"/usr/bin/true"}`
		digest, ok := e.MeasuredDigest()
		if op == OpExit {
			if ok || e.Body() != nil {
				t.Error("an exit measures something")
			}
			continue
		}
		if string(e.Body()) != body {
			t.Errorf("%s: body %s", op, e.Body())
		}
		h := crypto.SHA384.New()
		h.Write([]byte(`{"` + op + `":` + body + `}`))
		if !ok || digest != [48]byte(h.Sum(nil)) {
			t.Errorf("%s: measured digest %x", op, digest)
		}
	}
}

// Other programs read these bytes, so they are written here once in full.
func TestEventBytes(t *testing.T) {
	e, err := NewEvent(OpExec, Content{Container: "ab<&>", Salt: someSalt,
		Measured: json.RawMessage("{ \"exec\" : {\"sha384\":\"00\", \"path\":\"/bin/\\u00e9\"} }")})
	if err != nil {
		t.Fatal(err)
	}
	text := `cima exec {"container":"ab<&>","measured":{"exec":{"path":"/bin/é","sha384":"00"}},"salt":"` + someSalt + `"}`
	want := "LEAA" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(text)))) + text
	if string(e.Bytes()) != want {
		t.Errorf("got  %q\nwant %q", e.Bytes(), want)
	}
	h := crypto.SHA384.New()
	h.Write([]byte(want))
	if e.Digest() != [48]byte(h.Sum(nil)) {
		t.Errorf("digest %x", e.Digest())
	}
}

func rawEvent(text string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, boot.TagAAEL)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

func TestOneFormOnly(t *testing.T) {
	const ours = `"container":"4f","measured":{"exec":{}},"salt":"` + someSalt + `"`
	if _, err := ParseEvent(rawEvent(`cima exec {` + ours + `}`)); err != nil {
		t.Fatal(err)
	}
	for want, content := range map[string]string{
		"canonical":                    ` {` + ours + `}`,
		"appears twice":                `{"container":"4f",` + ours + `}`,
		"unknown member \"Container\"": `{"Container":"x",` + ours + `}`,
		"unknown member \"extra\"":     `{"container":"4f","extra":0,"measured":{"exec":{}},"salt":"` + someSalt + `"}`,
		"(RFC 8785) (byte 75)":         `{` + ours + `} `,
		"must name its container":      `{"measured":{"exec":{}},"salt":"` + someSalt + `"}`,
		"must be left out":             `{"container":"","measured":{"exec":{}},"salt":"` + someSalt + `"}`,
		"salt of 16 bytes":             `{"container":"4f","measured":{"exec":{}},"salt":"AAAA"}`,
		"salt of 16 bytes ":            `{"container":"4f","measured":{"exec":{}},"salt":"AAECAwQFBgcICQoLDA0ODx=="}`,
		"salt of 16 bytes  ":           `{"container":"4f","measured":{"exec":{}},"salt":"AAECAwQFBgcICQoLDA0O\nDw=="}`,
		"one member":                   `{"container":"4f","measured":{"exec":{},"image":{}},"salt":"` + someSalt + `"}`,
		"one member    ":               `{"container":"4f","measured":{"aaa":{},"exec":{}},"salt":"` + someSalt + `"}`,
		"one member ":                  `{"container":"4f","measured":{"image":{}},"salt":"` + someSalt + `"}`,
		"one member  ":                 `{"container":"4f","measured":{"exec":1},"salt":"` + someSalt + `"}`,
		"one member   ":                `{"container":"4f","measured":{},"salt":"` + someSalt + `"}`,
		"must measure an object":       `{"container":"4f","measured":[],"salt":"` + someSalt + `"}`,
		"must measure an object ":      `{"container":"4f","salt":"` + someSalt + `"}`,
		"must be a string of at most":  `{"container":4,"measured":{"exec":{}},"salt":"` + someSalt + `"}`,
		"must be a string of at most ": `{"container":"` + strings.Repeat("x", 600) + `","measured":{"exec":{}},"salt":"` + someSalt + `"}`,
		"content must be an object":    `[]`,
		"must nest at most":            strings.Repeat(`[`, 100_000),
		"must nest at most 128":        strings.Repeat(`{"a":`, 40_000),
		"canonical JSON":               `{"container":"4f","measured":{"exec":{"n":` + strings.Repeat("9", 100_000) + `}}}`,
		"canonical JSON ":              `{"container":"4f","measured":{"exec":{"n":1e400}}}`,
		"canonical JSON  ":             `{"container":"4f","measured":{"exec":{"n":12345678901234567890}}}`,
	} {
		_, err := ParseEvent(rawEvent("cima exec " + content))
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%.80s: want %q, got %v", content, want, err)
		}
	}
	for want, raw := range map[string][]byte{
		"must have 8 to":                     []byte("LEAA"),
		"must be AAEL's":                     []byte("AAEL\x00\x00\x00\x00"),
		"announces 9 bytes":                  []byte("LEAA\x09\x00\x00\x00x"),
		"of the domain":                      rawEvent("coco exec {}"),
		"must have content":                  rawEvent("cima exec"),
		"unknown operation":                  rawEvent("cima exex {}"),
		"must have 8 to 262144 bytes":        rawEvent("cima exec " + strings.Repeat("x", MaxEvent)),
		"must name no container":             rawEvent(`cima seal {"container":"x","measured":{"seal":{}}}`),
		"must name no container ":            rawEvent(`cima seal {"measured":{"seal":{}},"salt":"` + someSalt + `"}`),
		"an exit event must measure nothing": rawEvent(`cima exit {` + strings.Replace(ours, "exec", "exit", 1) + `}`),
	} {
		if _, err := ParseEvent(raw); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%.60q: want %q, got %v", raw, want, err)
		}
	}
}

func TestNewEventRefuses(t *testing.T) {
	for name, c := range map[string]Content{
		"duplicates":                {Measured: json.RawMessage(`{"seal":{"a":1,"a":2}}`)},
		"not JSON":                  {Measured: json.RawMessage(`{"seal":`)},
		"not UTF-8":                 {Measured: json.RawMessage("{\"seal\":{\"a\":\"\xff\"}}")},
		"too deep":                  {Measured: json.RawMessage(`{"seal":{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`)},
		"huge number":               {Measured: json.RawMessage(`{"seal":{"a":1e999}}`)},
		"too large":                 {Measured: json.RawMessage(`{"seal":{"a":"` + strings.Repeat("x", MaxEvent) + `"}}`)},
		"with a salt":               {Measured: json.RawMessage(`{"seal":{}}`), Salt: someSalt},
		"content must be an object": {Measured: json.RawMessage(`{"seal":[]}`)},
		"another name":              {Measured: json.RawMessage(`{"Seal":{}}`)},
	} {
		if e, err := NewEvent(OpSeal, c); err == nil {
			t.Errorf("%s: %s", name, e.Bytes())
		}
	}
	if _, err := NewEvent(OpExec, Content{Container: "\xff", Salt: someSalt, Measured: json.RawMessage(`{"exec":{}}`)}); err == nil {
		t.Error("a container id that is not UTF-8 was changed silently")
	}
}

func BenchmarkEvent(b *testing.B) {
	e := mustEvent(b, OpExtend)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseEvent(e.Bytes()); err != nil {
				b.Fatal(err)
			}
		}
	})
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
		if !bytes.Equal(e.Bytes(), b) || e.Digest() != sha512.Sum384(b) {
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

// bounded fails where f allocates more than four times the size of its input and a fixed
// amount.
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

// Content that could cost most, at a size where it would show.
func TestParsingIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{"\n", "x", "[", "[[],", "{\"a\":", "0,", "1.5,", "{},", "\x00", "\xff", `"\u0000",`, strings.Repeat("{", 100)} {
		raw := rawEvent("cima seal " + strings.Repeat(unit, (size-32)/len(unit)))
		bounded(t, len(raw), func() { ParseEvent(raw) })
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
