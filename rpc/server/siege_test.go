package server

import (
	"bytes"
	"context"
	"encoding/json"
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

	"golang.org/x/sys/unix"
)

// callerAt is an Attach that names a caller by the address that it bound:
// "@victim-3" is victim.
func callerAt(ctx context.Context, nc *net.UnixConn) (context.Context, func(), error) {
	return context.WithValue(context.WithoutCancel(ctx), callerName{}, callerOf(nc.RemoteAddr().String())), nil, nil
}

// originAt is an Origin that names a caller as callerAt does.
func originAt(socket int) (string, bool) {
	address, err := unix.Getpeername(socket)
	bound, ok := address.(*unix.SockaddrUnix)
	if err != nil || !ok {
		return "", false
	}
	return callerOf(bound.Name), true
}

func callerOf(address string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(address, "@"), "-")
	return name
}

type callerName struct{}

// hostileServer has the default limits, with shorter times.
func hostileServer() *Server {
	s := testServer()
	s.Limits = Limits{LineTime: 2 * time.Second, Write: time.Second, Idle: 3 * time.Second}
	s.Attach = callerAt
	s.waiting("Long", func(context.Context, json.RawMessage) (any, error) { return longResult, nil })
	s.Key = func(ctx context.Context) string { return ctx.Value(callerName{}).(string) }
	return s
}

// longResult is a result of the largest size, in memory already.
var longResult = json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`)

// A siege is a server in a process of its own, whose memory can be measured,
// and a victim that must be answered all the time.
type siege struct {
	t       *testing.T
	path    string
	pid     int
	n       int
	longest time.Duration // the longest wait of the victim
	most    int           // KiB of memory
}

func beginSiege(t *testing.T) *siege { return besiege(t, "hostile") }

// besiege starts a siege of one kind of server.
func besiege(t *testing.T, kind string) *siege {
	path, pid := startProcess(t, kind)
	s := &siege{t: t, path: path, pid: pid, most: 64 << 10}
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
	nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write([]byte(requestLine)); err != nil {
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

// attacker connects; all attackers are one caller.
func (s *siege) attacker() *wire {
	s.t.Helper()
	return s.as("hostile")
}

func (s *siege) as(name string) *wire {
	s.t.Helper()
	s.n++
	nc, err := dialAs(s.path, fmt.Sprintf("%s-%d-%d", name, s.pid, s.n))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(10 * time.Minute))
	return &wire{t: s.t, nc: nc.(*net.UnixConn)}
}

// judge compares the server's peak memory with a bound.
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
	if kib > s.most && !raceDetector() {
		s.t.Errorf("the server took %d KiB", kib)
	}
}

// raceDetector reports whether the race detector is on: it multiplies the
// memory.
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
