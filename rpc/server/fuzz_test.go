package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
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
	for _, method := range []string{"Panic", "Busy", "Leak", "Nonce", rpc.MethodGetCCMeasurement, rpc.MethodGetDefaultAlgorithm} {
		mixed += strings.Replace(line, "Echo", method, 1) + "\n"
	}
	f.Add([]byte(mixed), uint8(100))
	run := func(t *testing.T, data []byte, cut int, inline bool) []string {
		s := testServer()
		// Wait: for ever, as a tape's peer doesn't hang up. Large: how many may be
		// held depends on which are written first.
		s.Methods = slices.DeleteFunc(s.Methods, func(m Method) bool { return m.Name == "Wait" || m.Name == "Large" })
		if !inline {
			s.noneInline()
		}
		s.Limits = Limits{Line: 256, InFlight: 1 << 10}
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
			t.Fatalf("all by jrpc2: %q\ninline: %q", by, answers)
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
			if err := canonical.Check([]byte(answer)); err != nil || !strings.HasPrefix(answer, `{"jsonrpc":"2.0","id":`) {
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
