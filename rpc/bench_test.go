package rpc

import (
	"bufio"
	"context"
	"crypto/sha512"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// request is what the benchmarks send, prepared once.
const request = `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"index":3}}` + "\n"

// identify costs as much as naming a caller: about 20 µs.
func identify() {
	var block [4096]byte
	for begun := time.Now(); time.Since(begun) < 20*time.Microsecond; {
		block[0] ^= sha512.Sum384(block[:64])[0]
	}
}

func measurement(_ context.Context, p CCMeasurementParams) (CCMeasurement, error) {
	return CCMeasurement{Index: p.Index, AlgoID: p.AlgoID, Hash: Digest{1, 2, 3}}, nil
}

// round drives n connections for a while, writing out and reading a line, and
// returns answers per second.
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

// pingPong answers every byte with a newline.
func pingPong(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "raw")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
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
	}()
	return path
}

func serveBench(t testing.TB) string {
	s := &Server{
		Methods: map[string]Handler{MethodGetCCMeasurement: Bind(measurement)},
		Attach: func(ctx context.Context, _ *net.UnixConn) (context.Context, func(), error) {
			return context.WithoutCancel(ctx), nil, nil
		},
		Key:    func(context.Context) string { return "bench" },
		Before: func(context.Context, string) error { identify(); return nil },
		After:  func(context.Context, string, time.Duration, *Error, error) {},
		Limits: Limits{CallerConnections: 100},
	}
	path := filepath.Join(t.TempDir(), "rpc")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return path
}

// BenchmarkAgainstRaw gives the ratio to a ping-pong of single bytes, the
// limit of what a Unix socket can do, in interleaved rounds.
func BenchmarkAgainstRaw(b *testing.B) {
	raw, path := pingPong(b), serveBench(b)
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections=%d", n), func(b *testing.B) {
			var limit, ours float64
			for range b.N {
				limit += round(b, raw, n, []byte("\n"), 400*time.Millisecond)
				ours += round(b, path, n, []byte(request), 400*time.Millisecond)
			}
			b.ReportMetric(limit/float64(b.N), "raw/s")
			b.ReportMetric(ours/float64(b.N), "rpc/s")
			b.ReportMetric(ours/limit, "ratio")
		})
	}
}
