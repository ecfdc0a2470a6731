package sim

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cima-project/cima/hw"
)

func TestTDIsItsMachine(t *testing.T) {
	m, td := serve(t, Config{})
	ctx := context.Background()
	if err := td.Extend(ctx, hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if err := td.extendRegister(ctx, 2, hw.Digest{2}); err != nil {
		t.Fatal(err)
	}
	got, err := td.Registers(ctx)
	if err != nil || got != m.read() {
		t.Errorf("registers %v (%v), want %v", got, err, m.read())
	}
	quote, err := td.Quote(ctx, hw.ReportData{5})
	if err != nil {
		t.Fatal(err)
	}
	root, err := td.rootPEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := judge(quote, root); err != nil {
		t.Error(err)
	}
	log, err := td.BootLog()
	if want, _ := m.BootLog(); err != nil || string(log) != string(want) {
		t.Errorf("boot log of %d bytes (%v), want %d", len(log), err, len(want))
	}
	if id, err := td.BootID(); err != nil || id != m.bootID || len(id) != 36 {
		t.Errorf("boot id %q (%v), want %q", id, err, m.bootID)
	}
	if err := td.extendRegister(ctx, 4, hw.Digest{}); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("RTMR4: %v, want ENXIO", err)
	}
}

func TestDialRefusesAnOpenSocket(t *testing.T) {
	_, td := serve(t, Config{})
	if err := os.Chmod(td.path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(td.path); err == nil {
		t.Error("a socket that everybody can write to was accepted as a TD")
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
