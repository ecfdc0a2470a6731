package logs

import (
	"bytes"
	"crypto/sha512"
	_ "crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/logstest"
)

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
		"must be an object":            `[]`,
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
		logstest.Bounded(t, len(b), func() { e, err = ParseEvent(b) })
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

// Content that could cost most, at a size where it would show.
func TestParsingIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{"\n", "x", "[", "[[],", "{\"a\":", "0,", "1.5,", "{},", "\x00", "\xff", `"\u0000",`, strings.Repeat("{", 100)} {
		raw := rawEvent("cima seal " + strings.Repeat(unit, (size-32)/len(unit)))
		logstest.Bounded(t, len(raw), func() { ParseEvent(raw) })
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
