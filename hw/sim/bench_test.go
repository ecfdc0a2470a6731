package sim

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/cima-project/cima/hw"
)

func BenchmarkSign(b *testing.B) {
	m := bootMachine(b, Config{})
	for b.Loop() {
		if _, err := m.Sign(m.read(), hw.ReportData{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallByConnection(b *testing.B) {
	path := filepath.Join(b.TempDir(), "td.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, bootMachine(b, Config{})) }()
	td := &TD{path: path}
	for b.Loop() {
		if err := td.Extend(ctx, hw.Digest{}); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
}
