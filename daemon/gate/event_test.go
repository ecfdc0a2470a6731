package gate

import (
	"encoding/binary"
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

// Each exec in a container passes here.
func TestParseAllocatesNothing(t *testing.T) {
	raw := rawEvent()
	n := testing.AllocsPerRun(100, func() {
		if e, _, err := parse(raw); err != nil || e.pid != 42 || e.pidfd != 8 {
			t.Error(e, err)
		}
	})
	if n > 0 {
		t.Errorf("%.0f allocations, must be none", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{32, 0, 0, 0, 3, 0, 24, 0, 0, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 99, 0, 0, 0, 4, 0, 8, 0, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			e, rest, err := parse(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || e.pidfd < -1 {
				t.Fatalf("%+v, %d of %d bytes are left", e, len(rest), len(b))
			}
			b = rest
		}
	})
}

func TestParse(t *testing.T) {
	b := []byte{32, 0, 0, 0, 3, 0, 24, 0, 0, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 99, 0, 0, 0, 4, 0, 8, 0, 8, 0, 0, 0, 1}
	e, rest, err := parse(b)
	if want := (event{mask: unix.FAN_OPEN_EXEC_PERM, fd: 7, pid: 99, pidfd: 8}); err != nil || e != want || len(rest) != 1 {
		t.Errorf("%+v, %d left, %v", e, len(rest), err)
	}
	for n := range 32 {
		if _, _, err := parse(b[:n]); err == nil {
			t.Errorf("%d of 32 bytes are an event", n)
		}
	}
}
