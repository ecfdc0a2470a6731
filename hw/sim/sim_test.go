package sim

import (
	"context"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
)

func TestBootByALogOfOnesOwn(t *testing.T) {
	events := []boot.Event{{MR: 1, Type: boot.EvSeparator, Digest: [48]byte{1}, Data: make([]byte, 4)}}
	m := bootMachine(t, Config{BootLog: boot.Encode(events), MRTD: hw.Digest{8}})
	want := hw.Registers{MRTD: hw.Digest{8}, RTMR: [4]hw.Digest{hw.Digest{}.Extend(hw.Digest{1})}}
	if got := m.read(); got != want {
		t.Errorf("registers %v, want %v", got, want)
	}
	events[0].MR = 4
	for _, bad := range []Config{
		{BootLog: boot.Encode(events)},
		{BootLog: []byte("nonsense")},
		{BootLog: make([]byte, maxBootLog+1)},
		{QuoteVersion: 3},
		{Faults: []Fault{{Op: "nonsense"}}},
	} {
		if _, err := Boot(bad); err == nil {
			t.Errorf("booted with version %d, %d bytes of log", bad.QuoteVersion, len(bad.BootLog))
		}
	}
}

func TestExtendArithmetic(t *testing.T) {
	m := bootMachine(t, Config{})
	start := m.read()
	if start.RTMR[3] != (hw.Digest{}) {
		t.Fatalf("RTMR3 is %s at boot", start.RTMR[3])
	}
	for i := range 3 {
		if start.RTMR[i] == (hw.Digest{}) {
			t.Errorf("RTMR%d is zero after boot", i)
		}
	}
	want := start
	for i := range 10 {
		digest := hw.Digest{byte(i)}
		want.RTMR[3] = want.RTMR[3].Extend(digest)
		if err := m.Extend(context.Background(), digest); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.read(); got != want {
		t.Errorf("registers %v, want %v", got, want)
	}
	if again := bootMachine(t, Config{}); again.read() != start {
		t.Error("two boots of one log differ")
	} else if again.bootID == m.bootID {
		t.Error("two boots have one id")
	}
}
