package records

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// thousand is a store with the records of a thousand containers, all of them
// read.
func thousand(b *testing.B) *Store {
	b.Helper()
	dir := b.TempDir()
	s := New(Options{Places: []Place{{"docker", dir + "/task/{namespace}/{id}/config.json", []string{dir + "/runc/{namespace}/{id}/state.json"}, nil}}})
	s.trust.Root = uint32(os.Getuid())
	raw := encode(b, config(b, "docker"))
	for n := range 1000 {
		d := filepath.Join(dir, "task/moby", id(n))
		if err := os.MkdirAll(d, 0o755); err != nil {
			b.Fatal(err)
		}
		own := strings.ReplaceAll(string(raw), strings.Repeat("a1", 32), id(n))
		if err := os.WriteFile(filepath.Join(d, "config.json"), []byte(own), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2 * listingDelay)
	if _, _, err := s.Declared(context.Background(), "", "/warm"); err != nil {
		b.Fatal(err)
	}
	return s
}

func benchmark(b *testing.B, path string) {
	s := thousand(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Declared(context.Background(), "", path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeclaredOneOfThousand(b *testing.B) { benchmark(b, "/docker/"+id(500)) }
func BenchmarkDeclaredNobodys(b *testing.B)       { benchmark(b, "/system.slice/ssh.service") }

func BenchmarkListThousand(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := thousand(b)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		if all, err := s.List(context.Background()); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1000, "heap-B/record")
}
