package boot

import (
	"crypto"
	"crypto/sha512"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/cima-project/cima/logs/logstest"
)

func TestReplayAgreesWithQuote(t *testing.T) {
	const dir = "testing/testdata/ccel/"
	got, err := Replay(moduleFile(t, modTDX, dir+"ccel_data.dat"))
	if err != nil {
		t.Fatal(err)
	}
	want := quoteRTMRs(moduleFile(t, modTDX, dir+"cos-113-tdx-quote.dat"))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want[0] == [48]byte{} || want[3] != [48]byte{} {
		t.Error("the quote is not the one this test was written for")
	}
}

// go-eventlog's replay must agree, for the logs at which it doesn't panic.
func TestReplayAsGoEventlogDoes(t *testing.T) {
	for _, name := range []string{"cos-113-intel-tdx.bin", "gdc-tdx.bin", "ubuntu-2404-intel-tdx.bin", "event_log.bin"} {
		raw := moduleCCEL(t, name)
		registers, err := Replay(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := oracleReplay(raw, registers); err != nil {
			t.Errorf("%s: go-eventlog does not arrive at our registers: %v", name, err)
		}
		registers[0][0] ^= 1
		if oracleReplay(raw, registers) == nil {
			t.Errorf("%s: go-eventlog takes any register", name)
		}
	}
}

func oracleReplay(raw []byte, registers Registers) error {
	bank := register.RTMRBank{}
	for i := range registers {
		bank.RTMRs = append(bank.RTMRs, register.RTMR{Index: i, Digest: registers[i][:]})
	}
	_, err := tcg.ParseAndReplay(raw, bank.MRs(), tcg.ParseOpts{AllowPadding: true})
	return err
}

// The registers are computed here with crypto.SHA384 alone.
func TestReplayExtendsWhatItShould(t *testing.T) {
	log := mustParse(t, Encode(someEvents()))
	h := func(register [48]byte, data string) [48]byte {
		d := sha512.Sum384([]byte(data))
		sum := crypto.SHA384.New()
		sum.Write(register[:])
		sum.Write(d[:])
		return [48]byte(sum.Sum(nil))
	}
	var want Registers
	want[0] = h(want[0], "\x00\x00\x00\x00")
	want[1] = h(want[1], "Calling EFI Application from Boot Option")
	want[2] = h(want[2], "kernel_cmdline: /vmlinuz ro\x00")
	want[0] = h(want[0], "of no known type")
	want[3] = h(want[3], "LEAA\x05\x00\x00\x00a b c")
	got, err := log.Replay()
	if err != nil || got != want {
		t.Errorf("replay: %s, %v\nwant %s", got, err, want)
	}
}

func extended(register, digest [48]byte) [48]byte {
	return sha512.Sum384(append(register[:], digest[:]...))
}

func TestSharedQuote(t *testing.T) {
	got, err := Replay(logstest.SharedFile(t, "gcp-cos113/ccel.bin"))
	if want := quoteRTMRs(logstest.SharedFile(t, "gcp-cos113/quote.bin")); err != nil || got != want {
		t.Errorf("%s, want %s, %v", got, want, err)
	}
}

func benchCCEL(b *testing.B) ([]byte, Registers) {
	raw := moduleCCEL(b, "ubuntu-2404-intel-tdx.bin")
	registers, err := Replay(raw)
	if err != nil {
		b.Fatal(err)
	}
	return raw, registers
}

func BenchmarkReplay(b *testing.B) {
	raw, registers := benchCCEL(b)
	log, err := Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	var digests [][48]byte
	for _, e := range log.UnverifiedEvents() {
		if _, ok := e.Extends(); ok {
			digests = append(digests, e.Digest)
		}
	}
	b.Run("bare", func(b *testing.B) { bare(b, digests) })
	b.Run("replay", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := Replay(raw); err != nil || got != registers {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-eventlog", func(b *testing.B) {
		for b.Loop() {
			if err := oracleReplay(raw, registers); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-eventlog-parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := tcg.ParseEventLog(raw, tcg.ParseOpts{AllowPadding: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

var sink [48]byte

func bare(b *testing.B, digests [][48]byte) {
	for b.Loop() {
		extendAll(digests)
	}
}

func extendAll(digests [][48]byte) {
	var both [96]byte
	for i := range digests {
		copy(both[48:], digests[i][:])
		sum := sha512.Sum384(both[:])
		copy(both[:48], sum[:])
	}
	sink = [48]byte(both[:48])
}
