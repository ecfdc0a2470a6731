package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

func TestTenThousandConnections(t *testing.T) {
	s := besiege(t, "patient")
	var all []*wire
	for range 10_000 {
		all = append(all, s.attacker())
	}
	const most = 64 // of one caller
	var refused, closed atomic.Int32
	var reading sync.WaitGroup
	for _, w := range all {
		reading.Go(func() {
			var b [512]byte
			switch n, err := w.nc.Read(b[:]); {
			case bytes.Contains(b[:n], []byte("-32003")):
				refused.Add(1)
			case !errors.Is(err, net.ErrClosed):
				closed.Add(1)
			}
		})
	}
	for end := time.Now().Add(time.Minute); int(refused.Load()) < len(all)-most && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	for _, w := range all {
		w.nc.Close()
	}
	reading.Wait()
	if int(refused.Load()) != len(all)-most || closed.Load() != 0 {
		t.Errorf("%d refused with an answer, %d closed without one; want %d and 0", refused.Load(), closed.Load(), len(all)-most)
	}
}

func TestLongLines(t *testing.T) {
	s := beginSiege(t)
	for _, text := range []string{strings.Repeat("x", 1<<20), `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("M", 1<<20) + "\"}\n"} {
		w := s.attacker()
		go w.nc.Write([]byte(text)) // fails when the server closes
		var b [512]byte
		n, err := w.nc.Read(b[:])
		if err != nil || !bytes.Contains(b[:n], []byte(`"id":null,"error":{"code":-32005`)) || !bytes.Contains(b[:n], []byte(`"limit":65536`)) {
			t.Errorf("got %q, %v", b[:n], err)
		}
	}
	w := connect(t, s.path)
	fits := strings.Repeat("x", 64<<10-len(`{"jsonrpc":"2.0","id":1,"method":"Echo","params":{"a":""}}`))
	w.send(`{"jsonrpc":"2.0","id":1,"method":"Echo","params":{"a":"` + fits + "\"}}\n")
	if r := w.receive(); r.Error != nil {
		t.Errorf("a line of 64 KiB: %v", r.Error)
	}
}

// Unfinished lines, and idle connections, are closed in time.
func TestSlowLoris(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	half := strings.Repeat("x", 48<<10)
	for range 64 {
		w := s.attacker()
		w.nc.Write([]byte(half)) // the caller's share of memory may be used up, too
		all = append(all, w)
	}
	// Each gets one more byte until the server closes it.
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			for _, w := range all {
				w.nc.Write([]byte("x"))
			}
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	said := 0
	for _, w := range all {
		var b [512]byte
		if n, _ := w.nc.Read(b[:]); bytes.Contains(b[:n], []byte("a line must not take longer")) || bytes.Contains(b[:n], []byte("too many long lines")) {
			said++
		}
		if _, err := w.nc.Read(b[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("still open: %v", err)
		}
	}
	if said != len(all) {
		t.Errorf("%d of %d got the reason", said, len(all))
	}
}

func TestIdleAndHalfOpen(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	for i := range 64 {
		w := s.attacker()
		if i%2 == 0 {
			w.nc.CloseRead()
		}
		all = append(all, w)
	}
	for _, w := range all[1:] {
		var b [1]byte
		if _, err := w.nc.Read(b[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("still open: %v", err)
		}
	}
}

// A caller that requests long replies on all its connections and reads nothing
// fills its own memory only, and is closed in the end.
func TestNeverReading(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	for range 64 {
		w := s.attacker()
		w.nc.Write([]byte(strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"Large"}`+"\n", 100)))
		all = append(all, w)
	}
	for _, w := range all {
		var err error
		for err == nil {
			_, err = w.nc.Write([]byte("x\n"))
			time.Sleep(time.Millisecond)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("still open")
		}
	}
}

// A caller that sends many requests ahead is slowed, and gets all answers.
func TestPipelined(t *testing.T) {
	s := beginSiege(t)
	const n = 200_000
	w := connectedTo(s.attacker())
	go w.nc.Write([]byte(strings.Repeat(requestLine, n/20)))
	for range n / 20 {
		if r := w.receive(); r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	w.ends()
	// One that reads no answer is closed.
	v := s.attacker()
	if sent, err := v.nc.Write([]byte(strings.Repeat(requestLine, n))); err == nil {
		t.Errorf("all %d bytes were taken", sent)
	}
}

// A tape is a connection that replays recorded bytes, in pieces, and stores
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

// Whatever is sent, in whatever pieces, each line gets one answer until the
// connection is dropped: the same answer however the lines were cut, inline or
// by jrpc2. Answers come in any order.
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
		// Wait: for ever, because the peer of a tape doesn't hang up. Large:
		// how many replies may be held depends on which are written first.
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
		answers = answers[:len(answers)-1] // after the last newline
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
			if err := canonical.CheckNames([]byte(answer)); err != nil || !strings.HasPrefix(answer, `{"jsonrpc":"2.0","id":`) {
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
