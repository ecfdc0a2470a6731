package boot

import (
	"crypto/sha512"
	"testing"

	"github.com/google/go-eventlog/tcg"
)

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
