package rpc

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// logOf is an event log with boot events and own ones, and its registers.
func logOf(n int) (records []EventRecord, registers [4]Digest) {
	for i := range n {
		event := bytes.Repeat([]byte{byte(i)}, 100+i%300)
		digest := sha512.Sum384(event)
		r := EventRecord{
			RecNum: i, IMRIndex: i * 4 / n, EventType: 0x80000001, EventSize: len(event), Event: event,
			Digests: []EventDigest{{AlgoID: 4, Hash: digest[:20]}, {AlgoID: AlgoSHA384, Hash: digest[:]}},
		}
		if r.IMRIndex == 3 {
			r.EventType, r.ExtraInfo = 6, map[string]string{"rtmr3_digest": strings.Repeat("ab", 48)}
		}
		register := &registers[r.IMRIndex]
		*register = sha512.Sum384(append(register[:], digest[:]...))
		records = append(records, r)
	}
	return records, registers
}

// paged serves a log in pages of at most most records.
func paged(t *testing.T, records []EventRecord, registers *[4]Digest, most int) *Client {
	t.Helper()
	daemon := fakeDaemon{
		MethodGetMeasurementCount: fake(func(NoParams) (MeasurementCount, error) { return MeasurementCount{4}, nil }),
		MethodGetCCMeasurement: fake(func(p CCMeasurementParams) (CCMeasurement, error) {
			return CCMeasurement{Index: p.Index, AlgoID: AlgoSHA384, Hash: registers[p.Index]}, nil
		}),
		MethodGetCCEventLog: fake(func(p CCEventLogParams) (CCEventLog, error) {
			page := CCEventLog{Total: len(records), Events: records[p.Start:]}
			if count := min(most, max(p.Count, 1)); len(page.Events) > count {
				page.Events, page.Next = page.Events[:count], p.Start+count
			}
			return page, nil
		}),
	}
	return dial(t, Dialer{Path: daemon.start(t)})
}

func collect(c *Client, t *testing.T, p CCEventLogParams) (all []EventRecord, err error) {
	for e, err := range c.Events(t.Context(), p) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

func TestEventsArePagedThrough(t *testing.T) {
	records, registers := logOf(40)
	c := paged(t, records, &registers, 7)
	for _, p := range []CCEventLogParams{{Count: 7}, {Count: 3}, {Start: 33, Count: 7}, {Start: 39}, {Start: 40}} {
		got, err := collect(c, t, p)
		if err != nil || !reflect.DeepEqual(got, slices.Clone(records[p.Start:])) && len(got)+p.Start != 40 {
			t.Errorf("%+v: %d records, %v", p, len(got), err)
		}
	}
	for e, err := range c.Events(t.Context(), CCEventLogParams{Count: 7}) { // a caller stops when it has enough
		if err != nil || e.RecNum > 9 {
			t.Fatal(e.RecNum, err)
		}
		if e.RecNum == 9 {
			break
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.Events(ended, CCEventLogParams{}) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// A daemon that returns the same page again and again doesn't block a client.
func TestEventsGoOn(t *testing.T) {
	daemon := fakeDaemon{
		MethodGetCCEventLog: fake(func(p CCEventLogParams) (json.RawMessage, error) {
			return json.RawMessage(`{"events":[],"total":9,"next":4}`), nil
		}),
	}
	if _, err := collect(dial(t, Dialer{Path: daemon.start(t)}), t, CCEventLogParams{}); err == nil || !strings.Contains(err.Error(), "begins at 4") {
		t.Error(err)
	}
}

func TestEventLogIsComparedWithRegisters(t *testing.T) {
	records, registers := logOf(40)
	c := paged(t, records, &registers, 7)
	compared, err := c.CompareEventLog(t.Context())
	if err != nil || len(compared) != 4 {
		t.Fatal(compared, err)
	}
	for i, r := range compared {
		if !r.Equal() || r.Index != i || r.Replayed != registers[i] {
			t.Errorf("%+v, %v is wanted", r, registers[i])
		}
	}
	registers[2][0] ^= 1
	if compared, err = c.CompareEventLog(t.Context()); err != nil || compared[2].Equal() || !compared[1].Equal() {
		t.Error(compared, err)
	}
	for name, spoil := range map[string]func(r *EventRecord){
		"a record is missing":       func(r *EventRecord) { r.RecNum++ },
		"no digest":                 func(r *EventRecord) { r.Digests = r.Digests[:1] },
		"the event isn't its own":   func(r *EventRecord) { r.Event = []byte("x"); r.EventSize = 1 },
		"a register that isn't one": func(r *EventRecord) { r.IMRIndex = 4 },
	} {
		spoiled := slices.Clone(records)
		spoil(&spoiled[35])
		c := paged(t, spoiled, &registers, 7)
		if _, err := c.CompareEventLog(t.Context()); err == nil || name[:1] != "a" && !errors.Is(err, ErrReplay) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The lean decoder reads what encoding/json reads, and refuses what no daemon
// sends.
func TestLeanPages(t *testing.T) {
	records, _ := logOf(40)
	text, err := json.Marshal(CCEventLog{Events: records, Total: 40, Next: 7})
	if err != nil {
		t.Fatal(err)
	}
	samePage(t, text)
	samePage(t, []byte(`{"events":[],"total":0,"new":{"a":[1,2]}}`))
	if err := new(CCEventLog).decode([]byte(`{"events":[],"total":0,"nexts":[1,2]}`)); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{
		`{"events":[]}`, `{"total":0}`, `{"events":{},"total":0}`, `{"events":[1],"total":0}`, `[]`, `{"events":[],"total":"0"}`,
		strings.Replace(string(text), `"rec_num":0`, `"rec_num":-1`, 1),
		strings.Replace(string(text), `"imr_index":0`, `"imr_index":4`, 1),
		strings.Replace(string(text), `"event":"`, `"event":"!`, 1),
		strings.Replace(string(text), `"event":"`, `"event":null,"b":"`, 1),
		strings.Replace(string(text), `"hash":"`, `"hash":"AB`, 1),
		strings.Replace(string(text), `"next"`, `"Next"`, 1),
		strings.Replace(string(text), `"extra_info"`, `"extra_Info"`, 1),
		strings.Replace(string(text), `"total"`, `"Total":1,"total"`, 1),
		strings.Replace(string(text), `"hash"`, `"ha\u017Fh":"","hash"`, 1),
		strings.Replace(string(text), `"event_size":100`, `"event_size":99`, 1),
		strings.Replace(string(text), `"rtmr3_digest":"`, `"rtmr3_digest":1,"b":"`, 1),
	} {
		var page CCEventLog
		if err := page.decode([]byte(wrong)); err == nil {
			t.Errorf("read %.80s", wrong)
		}
	}
}

func samePage(t testing.TB, text []byte) (taken bool) {
	t.Helper()
	var lean, plain CCEventLog
	if lean.decode(text) != nil {
		return false
	}
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Errorf("only the lean decoder reads %s: %v", text, err)
	}
	a, _ := json.Marshal(lean)
	b, _ := json.Marshal(plain)
	if !bytes.Equal(a, b) {
		t.Errorf("lean %s\nplain %s", a, b)
	}
	return true
}

func FuzzLeanPages(f *testing.F) {
	records, _ := logOf(4)
	text, err := json.Marshal(CCEventLog{Events: records, Total: 40, Next: 7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"events":[{"rec_num":0,"imr_index":3,"event_type":6,"digests":[],"event_size":0,"event":""}],"total":1}`))
	f.Fuzz(func(t *testing.T, data []byte) { samePage(t, data) })
}

// BenchmarkPage reads a page of the largest size.
func BenchmarkPage(b *testing.B) {
	records, _ := logOf(1024)
	text, err := json.Marshal(CCEventLog{Events: records, Total: 4096, Next: 1024})
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func(*CCEventLog) error{
		"lean":  func(page *CCEventLog) error { return page.decode(text) },
		"plain": func(page *CCEventLog) error { return json.Unmarshal(text, page) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				var page CCEventLog
				if err := decode(&page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
