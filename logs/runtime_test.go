package logs

import (
	"bytes"
	"crypto"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/json"
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
	return []string{OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpLaunch, OpMounted, OpImage, OpExec, OpExtend, OpExit, OpMissed, OpIMA}
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
