package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

// requestLine is the request of the benchmarks, prepared once.
const requestLine = `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"index":3}}` + "\n"

func measurement(_ context.Context, p rpc.CCMeasurementParams) (rpc.CCMeasurement, error) {
	return rpc.CCMeasurement{Index: p.Index, AlgoID: p.AlgoID, Hash: rpc.Digest{1, 2, 3}}, nil
}

// round drives n connections for a while, each writing a request and reading a
// line, and returns answers per second.
func round(t testing.TB, path string, n int, out []byte, took time.Duration) float64 {
	var answers atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range n {
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer nc.Close()
			in := bufio.NewReaderSize(nc, 4096)
			for time.Since(begun) < took {
				if _, err := nc.Write(out); err != nil {
					t.Error(err)
					return
				}
				if _, err := in.ReadSlice('\n'); err != nil {
					t.Error(err)
					return
				}
				answers.Add(1)
			}
		})
	}
	all.Wait()
	return float64(answers.Load()) / time.Since(begun).Seconds()
}

// pingPong echoes every byte.
func pingPong(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer nc.Close()
			var b [1]byte
			for {
				if _, err := nc.Read(b[:]); err != nil {
					return
				}
				if _, err := nc.Write(b[:]); err != nil {
					return
				}
			}
		}()
	}
}

func answerAll(l net.Listener) {
	s := &Server{
		Methods: []Method{Define(rpc.MethodGetCCMeasurement, measurement)},
		Attach: func(ctx context.Context, _ *net.UnixConn) (context.Context, func(), error) {
			return context.WithoutCancel(ctx), nil, nil
		},
		Key:    func(context.Context) string { return "bench" },
		Before: func(context.Context, string) error { return nil },
		After:  func(context.Context, string, time.Duration, *rpc.Error, error) {},
		Limits: Limits{CallerConnections: 100},
	}
	s.Serve(context.Background(), l)
}

// processServer is the environment variable that makes the test's binary the
// server of a benchmark: a socket within one process measures nothing.
const processServer = "CIMA_RPC_TEST_SERVER"

func serveProcess(kind, path string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch kind {
	case "raw":
		pingPong(l)
	case "rpc":
		answerAll(l)
	case "hostile":
		hostileServer().Serve(context.Background(), l)
	case "patient": // nothing happens because time passes
		s := hostileServer()
		s.Limits = Limits{LineTime: time.Hour, Write: time.Hour, Idle: time.Hour, Connects: 1e6, ConnectBurst: 1e6}
		s.Origin = originAt
		s.Serve(context.Background(), l)
	}
}

// startProcess starts a server in a process of its own and returns its socket
// and its pid.
func startProcess(b testing.TB, kind string) (string, int) {
	path := filepath.Join(b.TempDir(), kind)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), processServer+"="+kind+":"+path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 500 {
		if nc, err := net.Dial("unix", path); err == nil {
			nc.Close()
			return path, cmd.Process.Pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("the server's process did not start")
	return "", 0
}

// BenchmarkAgainstRaw reports the ratio to a ping-pong of single bytes, which
// is the limit of a Unix socket: the median of interleaved rounds.
func BenchmarkAgainstRaw(b *testing.B) {
	raw, _ := startProcess(b, "raw")
	path, pid := startProcess(b, "rpc")
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections=%d", n), func(b *testing.B) {
			var limits, ours, ratios, costs []float64
			for range b.N {
				limit := round(b, raw, n, []byte("\n"), 400*time.Millisecond)
				before := cpuTime(b, pid)
				our := round(b, path, n, []byte(requestLine), 400*time.Millisecond)
				costs = append(costs, float64((cpuTime(b, pid)-before).Microseconds())/(our*0.4))
				limits, ours, ratios = append(limits, limit), append(ours, our), append(ratios, our/limit)
			}
			b.ReportMetric(quantile(limits, 2), "raw/s")
			b.ReportMetric(quantile(ours, 2), "rpc/s")
			b.ReportMetric(quantile(costs, 2), "µs-cpu/request")
			b.ReportMetric(quantile(ratios, 1), "q1")
			b.ReportMetric(quantile(ratios, 2), "ratio")
			b.ReportMetric(quantile(ratios, 3), "q3")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is the CPU time that a process has used so far (proc_pid_stat(5)), in
// ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// cycle connects, sends, reads a line and closes, for a while, and returns the
// number of cycles per second.
func cycle(b *testing.B, path string, out []byte, took time.Duration) float64 {
	n, begun := 0, time.Now()
	var in [4096]byte
	for ; time.Since(begun) < took; n++ {
		nc, err := net.Dial("unix", path)
		if err != nil {
			b.Fatal(err)
		}
		nc.Write(out)
		if _, err := nc.Read(in[:]); err != nil {
			b.Fatal(err)
		}
		nc.Close()
	}
	return float64(n) / time.Since(begun).Seconds()
}

// BenchmarkConnect reports how many times longer connect, call and close take
// than with a bare ping-pong.
func BenchmarkConnect(b *testing.B) {
	raw, _ := startProcess(b, "raw")
	path, _ := startProcess(b, "rpc")
	var times []float64
	for range b.N {
		limit := cycle(b, raw, []byte("\n"), 400*time.Millisecond)
		times = append(times, limit/cycle(b, path, []byte(requestLine), 400*time.Millisecond))
	}
	b.ReportMetric(quantile(times, 2), "times-raw")
	b.ReportMetric(0, "ns/op")
}

func quantile(v []float64, quarter int) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[(len(v)-1)*quarter/4]
}

// BenchmarkInline is a call from the request line to the answer line, without
// the socket.
func BenchmarkInline(b *testing.B) {
	s := testServer()
	s.once.Do(s.setUp)
	charged := s.callers.enter("bench")
	defer charged.leave()
	nc, line := new(tape), []byte(requestLine)
	c := s.newConn(context.Background(), nc, charged)
	b.ReportAllocs()
	for b.Loop() {
		nc.pieces = append(nc.pieces[:0], line)
		nc.out.Reset()
		c.serve()
	}
}
