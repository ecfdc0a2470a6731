package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// callerAt names a caller by the address that it bound, and tells the server
// so: "@victim-3" is victim.
func callerAt(ctx context.Context, nc *net.UnixConn) (context.Context, func(), error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(nc.RemoteAddr().String(), "@"), "-")
	return context.WithValue(context.WithoutCancel(ctx), callerName{}, name), nil, nil
}

type callerName struct{}

// hostileServer has the limits that callers meet in real life, and less time.
func hostileServer() *Server {
	s := testServer()
	s.Limits = Limits{LineTime: 2 * time.Second, Write: time.Second, Idle: 3 * time.Second}
	s.Attach = callerAt
	s.Key = func(ctx context.Context) string { return ctx.Value(callerName{}).(string) }
	return s
}

// A siege is a server in its own process, so that its memory can be seen, and
// a victim that must go on being answered.
type siege struct {
	t       *testing.T
	path    string
	pid     int
	n       int
	longest time.Duration // that the victim waited
}

func beginSiege(t *testing.T) *siege {
	path, pid := startProcess(t, "hostile")
	s := &siege{t: t, path: path, pid: pid}
	done := make(chan struct{})
	var victim sync.WaitGroup
	victim.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			begun := time.Now()
			if err := s.victimAsks(i); err != nil {
				t.Errorf("the victim was not answered: %v", err)
				return
			}
			s.longest = max(s.longest, time.Since(begun))
		}
	})
	t.Cleanup(func() {
		close(done)
		victim.Wait()
		s.judge()
	})
	return s
}

func (s *siege) victimAsks(i int) error {
	nc, err := dialAs(s.path, fmt.Sprintf("victim-%d-%d", s.pid, i))
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Write([]byte(request)); err != nil {
		return err
	}
	var b [4096]byte
	n, err := nc.Read(b[:])
	if err == nil && !bytes.Contains(b[:n], []byte(`"result":{"index":3`)) {
		err = fmt.Errorf("got %s", b[:n])
	}
	return err
}

func dialAs(path, name string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.UnixAddr{Net: "unix", Name: "@" + name}}
	for wait := time.Millisecond; ; wait *= 2 {
		nc, err := d.Dial("unix", path)
		if !errors.Is(err, syscall.EAGAIN) || wait > 5*time.Second {
			return nc, err
		}
		time.Sleep(wait) // the kernel's queue is full
	}
}

// attacker connects as one and the same hostile caller.
func (s *siege) attacker() *wire {
	s.t.Helper()
	s.n++
	nc, err := dialAs(s.path, fmt.Sprintf("hostile-%d-%d", s.pid, s.n))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	return &wire{t: s.t, nc: nc.(*net.UnixConn)}
}

// judge holds the server to 64 MiB, the most it ever had.
func (s *siege) judge() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Errorf("the server is gone: %v", err)
		return
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("server's peak memory: %d KiB, longest wait of another caller: %v", kib, s.longest)
	if kib > 64<<10 && !raceDetector() {
		s.t.Errorf("the server took %d KiB", kib)
	}
}

// raceDetector reports whether memory is several times what it would be.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

func TestTenThousandConnections(t *testing.T) {
	s := beginSiege(t)
	var all []*wire
	for range 10_000 {
		all = append(all, s.attacker())
	}
	open, refused := 0, 0
	for _, w := range all {
		w.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		var b [512]byte
		switch n, err := w.nc.Read(b[:]); {
		case err == nil && bytes.Contains(b[:n], []byte("-32003")):
			refused++
		case errors.Is(err, os.ErrDeadlineExceeded):
			open++
		}
	}
	t.Logf("%d open, %d refused with an answer", open, refused)
	// Idle ones are closed and make room while we connect and look.
	if open > 64 || refused < 10_000-3*64 {
		t.Errorf("%d open, %d refused", open, refused)
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
	begun := time.Now()
	for time.Since(begun) < 3*time.Second {
		for _, w := range all {
			w.nc.Write([]byte("x"))
		}
		time.Sleep(100 * time.Millisecond)
	}
	said := 0
	for _, w := range all {
		var b [512]byte
		if n, _ := w.nc.Read(b[:]); bytes.Contains(b[:n], []byte("a line takes no longer")) || bytes.Contains(b[:n], []byte("too many long lines")) {
			said++
		}
		w.nc.SetReadDeadline(time.Now().Add(time.Second))
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
	begun := time.Now()
	for _, w := range all[1:] {
		var b [1]byte
		if _, err := w.nc.Read(b[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("still open: %v", err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("idle connections stayed for %v", took)
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

// 200,000 requests sent ahead are all answered, in order, from a few KiB.
func TestPipelined(t *testing.T) {
	s := beginSiege(t)
	const n = 200_000
	w := s.attacker()
	go func() {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, `{"jsonrpc":"2.0","id":%d,"method":"Echo","params":{}}`+"\n", i)
		}
		w.nc.Write(b.Bytes())
	}()
	reading := connectedTo(w)
	for i := range n {
		r := reading.receive()
		if r.Error != nil || r.ID != float64(i) {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
	// And by one who reads none of the answers.
	v := s.attacker()
	if sent, err := v.nc.Write([]byte(strings.Repeat(request, n))); err == nil {
		t.Errorf("all %d bytes were taken", sent)
	}
}
