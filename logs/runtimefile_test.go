package logs

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// runtimeFile is a log as cimad writes it.
func runtimeFile(t testing.TB, events []Event) string {
	var b strings.Builder
	b.WriteString(`{"cima":1,"boot_id":"x"}` + "\n")
	var register canonical.Digest
	for _, e := range events {
		after := register.Extend(e.Digest())
		fmt.Fprintf(&b, `{"before":"%s","after":"%s","instance":"i","event":%q}`+"\n",
			register, after, base64.StdEncoding.EncodeToString(e.Bytes()))
		register = after
	}
	return b.String()
}

func someRuntimeEvents(t *testing.T) []Event {
	var events []Event
	for _, op := range operations() {
		events = append(events, mustEvent(t, op))
	}
	return events
}

func readRuntime(t *testing.T, text string) ([]RuntimeRecord, error) {
	t.Helper()
	var records []RuntimeRecord
	for r, err := range UnverifiedRuntimeRecords(strings.NewReader(text)) {
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

func TestRuntimeFileForms(t *testing.T) {
	events := someRuntimeEvents(t)
	bootLog := boot.Encode([]boot.Event{
		{MR: 1, Type: boot.EvSeparator, Digest: sha512.Sum384(make([]byte, 4)), Data: make([]byte, 4)},
		{MR: 3, Type: boot.EvIPL, Digest: sha512.Sum384([]byte("ro")), Data: []byte("ro")},
	})
	var records, cel []byte
	for i, e := range events {
		records = aaelRecord(records, e)
		cel = append(AppendCELJSON(cel, CELRecord{Number: uint64(i), RTMR: 3, Digest: e.Digest(), Type: boot.EvEventTag, Data: e.Bytes()}), '\n')
	}
	file := runtimeFile(t, events)
	for name, c := range map[string]struct {
		text  string
		own   bool // events are parsed
		after bool // registers are there
	}{
		"cimad's file":            {file, true, true},
		"with a torn line":        {file + `{"before":"00`, true, true},
		"AAEL records":            {string(records), true, false},
		"behind a boot log":       {string(bootLog) + string(records), true, false},
		"padded":                  {string(bootLog) + string(records) + strings.Repeat("\xff", 99), true, false},
		"canonical event log":     {string(cel), false, false},
		"with record separators":  {"\x1e" + strings.ReplaceAll(strings.TrimSpace(string(cel)), "\n", "\n\x1e") + "\n", false, false},
		"others' of the same log": {string(bootLog), false, false},
	} {
		got, err := readRuntime(t, c.text)
		want := events
		if name == "others' of the same log" {
			want = nil
		}
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d events of %d, %v", name, len(got), len(want), err)
			continue
		}
		var register canonical.Digest
		for i, r := range got {
			register = register.Extend(r.Digest)
			if r.Digest != want[i].Digest() || r.RTMR != 3 || (r.Event != nil) != c.own || (r.After != nil) != c.after {
				t.Errorf("%s: event %d: %+v", name, i, r)
			}
			if c.own && r.Event.Operation != want[i].Operation || c.after && *r.After != register {
				t.Errorf("%s: event %d: %+v", name, i, r)
			}
		}
	}
}

func TestRuntimeFileShowsRedactedByDigestOnly(t *testing.T) {
	e := mustEvent(t, OpExec)
	got, err := readRuntime(t, string(redactedRecord(nil, e.Digest())))
	if err != nil || len(got) != 1 || got[0].Digest != e.Digest() || got[0].Data != nil || got[0].Event != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRuntimeFileErrors(t *testing.T) {
	file := runtimeFile(t, someRuntimeEvents(t)[:2])
	for name, text := range map[string]string{
		"no JSON":         strings.Replace(file, `{"before"`, `{before"`, 1),
		"short register":  strings.Replace(file, `"after":"`, `"after":"00","x":"`, 1),
		"broken event":    strings.Replace(file, `"event":"TEVBQ`, `"event":"TEVBR`, 1),
		"a line too long": file + strings.Repeat("x", maxRuntimeLine+1),
		"anything else":   "hello, this is no log at all",
		"CEL, broken":     `{"recnum":0}` + "\n",
	} {
		if got, err := readRuntime(t, text); err == nil {
			t.Errorf("%s: accepted: %+v", name, got)
		}
	}
	if got, err := readRuntime(t, ""); err != nil || len(got) > 0 {
		t.Errorf("nothing: %+v, %v", got, err)
	}
}

func FuzzRuntimeFile(f *testing.F) {
	e, err := NewEvent(OpSeal, Content{Measured: []byte(`{"seal":{}}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(runtimeFile(f, []Event{e, e})))
	f.Add(aaelRecord(nil, e))
	f.Add(AppendCELJSON(nil, CELRecord{RTMR: 3, Digest: e.Digest(), Type: boot.EvEventTag, Data: e.Bytes()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for r, err := range UnverifiedRuntimeRecords(bytes.NewReader(b)) {
			if n++; err == nil && (r.RTMR < 0 || r.RTMR > 3) {
				t.Errorf("RTMR%d", r.RTMR)
			}
			if n > len(b) {
				t.Fatal("more records than bytes")
			}
		}
	})
}
