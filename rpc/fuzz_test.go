package rpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// A tape is a connection that gives what was recorded, in pieces, and keeps
// what is written.
type tape struct {
	net.Conn
	pieces [][]byte
	out    bytes.Buffer
}

func (c *tape) Read(b []byte) (int, error) {
	for len(c.pieces) > 0 && len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.pieces[0])
	c.pieces[0] = c.pieces[0][n:]
	return n, nil
}

func (c *tape) Write(b []byte) (int, error)    { return c.out.Write(b) }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }
func (*tape) Close() error                     { return nil }

// Whatever is sent, in whatever pieces, each line gets one answer, the same
// one however it was cut and by whichever way it was answered, until the
// connection is dropped. Answers come in any order.
func FuzzFraming(f *testing.F) {
	line := `{"jsonrpc":"2.0","id":1,"method":"Echo","params":{"a":"b"}}`
	for _, seed := range []string{line + "\n", line + "\n" + line, "\n\n", "[" + line + "]\n", strings.Repeat("x", 300) + "\n", line + "\r\n", "\xff\n"} {
		f.Add([]byte(seed), uint8(3))
	}
	mixed := "{}\n"
	for _, method := range []string{"Panic", "Busy", "Leak", "Nonce", MethodGetCCMeasurement, MethodGetDefaultAlgorithm} {
		mixed += strings.Replace(line, "Echo", method, 1) + "\n"
	}
	f.Add([]byte(mixed), uint8(100))
	run := func(t *testing.T, data []byte, cut int, atOnce bool) []string {
		s := testServer()
		delete(s.Methods, "Wait")  // for ever: a tape's peer doesn't hang up
		delete(s.Methods, "Large") // how many find room depends on which are written first
		if !atOnce {
			s.AtOnce = nil
		}
		s.Limits = Limits{Line: 256, InFlight: 1 << 20}
		s.once.Do(s.setUp)
		nc := new(tape)
		for ; len(data) > cut; data = data[cut:] {
			nc.pieces = append(nc.pieces, data[:cut])
		}
		nc.pieces = append(nc.pieces, data)
		s.serveTape(nc)
		if held := s.Counts().Memory; held != 0 {
			t.Fatalf("%d bytes are still charged", held)
		}
		answers := strings.SplitAfter(nc.out.String(), "\n")
		answers = answers[:len(answers)-1] // behind the last newline
		slices.Sort(answers)
		return answers
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		answers := run(t, bytes.Clone(data), len(data)+1, true)
		if again := run(t, bytes.Clone(data), int(cut)+1, true); !slices.Equal(again, answers) {
			t.Fatalf("cut after %d: %q\nwhole: %q", int(cut)+1, again, answers)
		}
		if by := run(t, bytes.Clone(data), int(cut)+1, false); !slices.Equal(by, answers) {
			t.Fatalf("all by jrpc2: %q\nat once: %q", by, answers)
		}
		out := strings.Join(answers, "")
		lines := bytes.Count(data, []byte("\n"))
		if len(answers) > lines+1 {
			t.Fatalf("%d answers to %d lines", len(answers), lines)
		}
		closed := strings.Contains(out, "connection closed") || strings.Count(out, `"error"`) >= maxBad
		if len(answers) < lines && !closed {
			t.Fatalf("%d answers to %d lines: %q", len(answers), lines, out)
		}
		for _, answer := range answers {
			if err := Strict([]byte(answer)); err != nil || !strings.HasPrefix(answer, `{"jsonrpc":"2.0","id":`) {
				t.Fatalf("answer %q: %v", answer, err)
			}
		}
	})
}

// serveTape is serve without attaching.
func (s *Server) serveTape(nc net.Conn) {
	charged := s.callers.enter("tape")
	defer charged.leave()
	s.run(s.newConn(context.Background(), nc, charged))
}

// What DecodeParams takes, encoding/json understands in the same way, and
// writing it and reading it again changes nothing.
func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAECAwQFBgc=","user_data":"AAAA","format":"cima","shared":true}`))
	f.Add([]byte(`{"index":3,"algo_id":12}`))
	f.Add([]byte(`{"domain":"a","operation":"b","content":"\u00e9\ud83d\ude00"}`))
	f.Add([]byte(`{"start":1,"count":1024}`))
	f.Add([]byte(`{"nonce":"AAECAwQFBgc=","Nonce":"AAECAwQFBgc="}`))
	f.Fuzz(func(t *testing.T, data []byte) { sameParams(t, data) })
}

func sameParams(t *testing.T, data []byte) (taken bool) {
	none := compare(t, data, new(NoParams), new(NoParams), new(NoParams))
	register := compare(t, data, new(CCMeasurementParams), new(CCMeasurementParams), &CCMeasurementParams{AlgoID: AlgoSHA384})
	page := compare(t, data, new(CCEventLogParams), new(CCEventLogParams), new(CCEventLogParams))
	report := compare(t, data, new(CCReportParams), new(CCReportParams), new(CCReportParams))
	evidence := compare(t, data, new(EvidenceParams), new(EvidenceParams), &EvidenceParams{Format: FormatCIMA})
	extend := compare(t, data, new(ExtendParams), new(ExtendParams), new(ExtendParams))
	return none || register || page || report || evidence || extend
}

// compare reads data with DecodeParams into ours and with encoding/json into
// theirs, which starts with what absent members are.
func compare[P Params](t *testing.T, data []byte, ours, again, theirs P) (taken bool) {
	err := DecodeParams(data, ours)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalidParams {
			t.Fatalf("got %T: %v", err, err)
		}
		return false
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, theirs); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", data, err)
		}
	}
	a, _ := json.Marshal(ours)
	b, _ := json.Marshal(theirs)
	if !bytes.Equal(a, b) {
		t.Fatalf("%q: we read %s, encoding/json reads %s", data, a, b)
	}
	if err := DecodeParams(a, again); err != nil {
		t.Fatalf("%q: read, written as %s, and refused: %v", data, a, err)
	}
	return true
}

// Strict takes nothing that encoding/json refuses.
func FuzzStrict(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e+3,true,null,"\u00e9\\"],"b":{"c":""}}`))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte("x"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		strict, canonical := Strict(data), StrictCanonical(data)
		if strict == nil && !json.Valid(data) {
			t.Fatalf("took %q", data)
		}
		if canonical == nil && strict != nil {
			t.Fatalf("canonical takes %q, which is not strict: %v", data, strict)
		}
	})
}
