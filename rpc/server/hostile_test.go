package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// Lines half sent, and idle connections, have an end.
func TestSlowLoris(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	half := strings.Repeat("x", 48<<10)
	for range 64 {
		w := s.attacker()
		w.nc.Write([]byte(half)) // the caller's share of memory has an end too
		all = append(all, w)
	}
	// Each gets a byte more until the server closes it.
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
		if n, _ := w.nc.Read(b[:]); bytes.Contains(b[:n], []byte("a line takes no longer")) || bytes.Contains(b[:n], []byte("too many long lines")) {
			said++
		}
		if _, err := w.nc.Read(b[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("still open: %v", err)
		}
	}
	if said != len(all) {
		t.Errorf("%d of %d were told why", said, len(all))
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

// A caller that asks for much on all of its connections and reads nothing
// fills its own share only, and is closed in the end.
func TestNeverReading(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	for range 64 {
		w := s.attacker()
		w.nc.Write([]byte(strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"Large"}`+"\n", 100)))
		all = append(all, w)
	}
	time.Sleep(6 * time.Second) // more than the time to write, twice, and to be idle
	for _, w := range all {
		if _, err := w.nc.Write([]byte("x\n")); err == nil {
			t.Fatal("still open")
		}
	}
}

// What a caller does not read, and lines that it does not end, are held up to
// its share; others have theirs.
func TestMemoryShares(t *testing.T) {
	s := hostileServer()
	s.Limits = Limits{CallerMemory: 1} // raised to two replies and a line
	path := start(t, s)
	as := func(name string) *wire {
		nc, err := dialAs(path, fmt.Sprintf("%s-%d-%d", name, os.Getpid(), time.Now().UnixNano()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return connectedTo(&wire{t: t, nc: nc.(*net.UnixConn)})
	}
	const large = `{"jsonrpc":"2.0","id":1,"method":"Large"}` + "\n"
	for range 2 {
		as("greedy").send(large)
	}
	for s.Counts().Memory < 2<<20 {
		time.Sleep(time.Millisecond)
	}
	w := as("greedy")
	if r := w.ask("Echo", "{}"); r.Error == nil || r.Error.Code != rpc.CodeRateLimited {
		t.Errorf("a third: %+v", r)
	}
	w.send(strings.Repeat("x", 40<<10))
	if r := w.receive(); r.Error == nil || r.Error.Code != rpc.CodeTooLarge && r.Error.Code != rpc.CodeRateLimited {
		t.Errorf("a long line: %+v", r)
	}
	w.ends()
	v := as("other")
	v.send(large)
	if r := v.receive(); r.Error != nil {
		t.Errorf("another caller: %v", r.Error)
	}
}

// Who sends 200,000 requests ahead is told of the limit and dropped.
func TestPipelined(t *testing.T) {
	s := beginSiege(t)
	const n = 200_000
	for range 8 {
		w := connectedTo(s.attacker())
		go w.nc.Write([]byte(strings.Repeat(requestLine, n))) // fails when the server closes
		answers := 0
		r := w.receive()
		for ; r.Error == nil; r = w.receive() {
			answers++
		}
		if r.Error.Code != rpc.CodeRateLimited || r.ID != nil || answers >= n {
			t.Errorf("after %d answers: %+v", answers, r)
		}
		w.ends()
	}
	// And one who reads none of the answers.
	v := s.attacker()
	if sent, err := v.nc.Write([]byte(strings.Repeat(requestLine, n))); err == nil {
		t.Errorf("all %d bytes were taken", sent)
	}
}
