package ima

import (
	"bytes"
	"crypto"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
)

func TestReplayPCRAndRTMR2(t *testing.T) {
	extend := func(alg crypto.Hash, register, digest []byte) []byte {
		h := alg.New()
		h.Write(register)
		h.Write(digest)
		return h.Sum(nil)
	}
	for _, logAlg := range hashes {
		var raw string
		for _, k := range everyTemplate() {
			raw += k.ascii(logAlg)
		}
		banks := map[crypto.Hash]alg.ID{crypto.SHA1: alg.SHA1, crypto.SHA256: alg.SHA256, crypto.SHA384: alg.SHA384}
		for bank, id := range banks {
			want := make([]byte, bank.Size())
			for _, k := range everyTemplate() {
				digest := k.hash(bank)
				if k.violated {
					digest = bytes.Repeat([]byte{0xFF}, bank.Size())
				}
				if k.pcr == 10 {
					want = extend(bank, want, digest)
				}
			}
			pcr := NewPCR(id, 10)
			if err := NewReader(strings.NewReader(raw)).Replay(pcr); err != nil || !bytes.Equal(pcr.Value(), want) {
				t.Errorf("log %s, bank %s: %x, want %x (%v)", logAlg, bank, pcr.Value(), want, err)
			}
		}
	}
	booted := [48]byte{1, 2, 3}
	k := everyTemplate()[8]
	rtmr2 := NewRTMR2(booted)
	if err := NewReader(strings.NewReader(k.ascii(crypto.SHA384))).Replay(rtmr2); err != nil {
		t.Fatal(err)
	}
	if want := extend(crypto.SHA384, booted[:], k.hash(crypto.SHA384)); !bytes.Equal(rtmr2.Value(), want) {
		t.Errorf("RTMR2 %x, want %x", rtmr2.Value(), want)
	}
}

func TestSharedQuoteWithIMA(t *testing.T) {
	booted, err := boot.Replay(sharedFile(t, "evidence-api/ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const rtmr2 = 48 + 328 + 2*48 // in a quote: header, body up to RTMR0, two registers
	want := [48]byte(sharedFile(t, "evidence-api/quote.bin")[rtmr2:])
	if booted[2] == want {
		t.Error("the boot log alone explains RTMR2, which IMA extended")
	}
	got := NewRTMR2(booted[2])
	if err := NewReader(bytes.NewReader(sharedFile(t, "evidence-api/ima.ascii"))).Replay(got); err != nil || !bytes.Equal(got.Value(), want[:]) {
		t.Errorf("%x, want %x, %v", got.Value(), want, err)
	}
}
