package gate

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkParse reads an event as the kernel writes it for each exec.
func BenchmarkParse(b *testing.B) {
	raw := rawEvent()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func rawEvent() []byte {
	order := binary.NativeEndian
	raw := order.AppendUint32(nil, metadataLen+8)
	raw = append(raw, unix.FANOTIFY_METADATA_VERSION, 0)
	raw = order.AppendUint16(raw, metadataLen)
	raw = order.AppendUint64(raw, unix.FAN_OPEN_EXEC_PERM)
	raw = order.AppendUint32(order.AppendUint32(raw, 7), 42)
	raw = append(raw, unix.FAN_EVENT_INFO_TYPE_PIDFD, 0)
	raw = order.AppendUint16(raw, 8)
	return order.AppendUint32(raw, 8)
}

// BenchmarkHash reads a program that nobody has measured yet.
func BenchmarkHash(b *testing.B) {
	path := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	m := &measurer{maxSize: 1 << 30}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.hash(context.Background(), int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

// Each exec of a container comes through here.
func TestParseAllocatesNothing(t *testing.T) {
	raw := rawEvent()
	n := testing.AllocsPerRun(100, func() {
		if e, _, err := parse(raw); err != nil || e.pid != 42 || e.pidfd != 8 {
			t.Error(e, err)
		}
	})
	if n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
