package ima

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/logstest"
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
	booted, err := boot.Replay(logstest.SharedFile(t, "evidence-api/ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const rtmr2 = 48 + 328 + 2*48 // in a quote: header, body up to RTMR0, two registers
	want := [48]byte(logstest.SharedFile(t, "evidence-api/quote.bin")[rtmr2:])
	if booted[2] == want {
		t.Error("the boot log alone explains RTMR2, which IMA extended")
	}
	got := NewRTMR2(booted[2])
	if err := NewReader(bytes.NewReader(logstest.SharedFile(t, "evidence-api/ima.ascii"))).Replay(got); err != nil || !bytes.Equal(got.Value(), want[:]) {
		t.Errorf("%x, want %x, %v", got.Value(), want, err)
	}
}

// A register that is extended with RTMR2Digest alone must be as one that sees the entries.
func TestRTMR2Digest(t *testing.T) {
	for pcr, covered := range map[uint32]bool{0: false, 1: false, 2: true, 7: false, 8: true, 10: true, 15: true, 16: false} {
		for _, logAlg := range hashes {
			k := everyTemplate()[8]
			k.pcr = pcr
			e, err := NewReader(strings.NewReader(k.ascii(logAlg))).Next()
			if err != nil {
				t.Fatal(err)
			}
			digest, ok, err := e.RTMR2Digest()
			if err != nil || ok != covered || ok && !bytes.Equal(digest[:], k.hash(crypto.SHA384)) {
				t.Errorf("register %d, log %s: %x, %v, %v", pcr, logAlg, digest, ok, err)
			}
			whole, bare := NewRTMR2([48]byte{1}), NewRTMR2([48]byte{1})
			if err := whole.Extend(e); err != nil {
				t.Fatal(err)
			}
			if ok {
				bare.ExtendDigest(digest)
			}
			if !bytes.Equal(whole.Value(), bare.Value()) {
				t.Errorf("register %d, log %s: %x, by digests %x", pcr, logAlg, whole.Value(), bare.Value())
			}
		}
	}
	hash := strings.Repeat("ab", 32)
	e, err := NewReader(strings.NewReader("10 " + hash + " ima-new a b\n")).Next()
	if err != nil {
		t.Fatal(err)
	}
	if digest, ok, err := e.RTMR2Digest(); err == nil {
		t.Errorf("an unknown template has the digest %x, %v", digest, ok)
	}
}

// generated is a log of n entries, in ASCII or binary form, which is made while it is
// read.
type generated struct {
	entries []string
	n       int
	rest    string
}

func newGenerated(n int, form func(kernelEntry) string) *generated {
	l := &generated{n: n}
	for i := range 1000 {
		path := fmt.Sprintf("/system.slice/docker-%064x.scope", i%50)
		l.entries = append(l.entries, form(inCgroup(path, fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i))))
	}
	return l
}

func (l *generated) Read(p []byte) (int, error) {
	if l.rest == "" {
		if l.n == 0 {
			return 0, io.EOF
		}
		l.n--
		l.rest = l.entries[l.n%len(l.entries)]
	}
	n := copy(p, l.rest)
	for l.rest = l.rest[n:]; l.rest == "" && l.n > 0 && len(p)-n > 1024; {
		l.n--
		n += copy(p[n:], l.entries[l.n%len(l.entries)])
	}
	return n, nil
}

func asciiForm(k kernelEntry) string { return k.ascii(crypto.SHA384) }

func binaryForm(k kernelEntry) string { return k.binary(crypto.SHA384) }

func BenchmarkReplay(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, form := range []struct {
			name string
			of   func(kernelEntry) string
		}{{"ascii", asciiForm}, {"binary", binaryForm}} {
			for _, check := range []bool{false, true} {
				name := fmt.Sprint(n, "/", form.name)
				if check {
					name += "-checked"
				}
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					log := newGenerated(0, form.of)
					for b.Loop() {
						log.n = n
						r := NewReader(log)
						r.Check = check
						if err := r.Replay(NewRTMR2([48]byte{})); err != nil || r.Entries != int64(n) || r.Mismatched != 0 {
							b.Fatal(err, r.Entries)
						}
					}
				})
			}
		}
	}
}

func TestMemoryIsConstant(t *testing.T) {
	for _, form := range []func(kernelEntry) string{asciiForm, binaryForm} {
		few, many := allocs(t, 1000, form), allocs(t, 50_000, form)
		if many > few {
			t.Errorf("%v allocations for 1000 entries, %v for 50000", few, many)
		}
	}
}

func allocs(t *testing.T, n int, form func(kernelEntry) string) float64 {
	log := newGenerated(0, form)
	return testing.AllocsPerRun(3, func() {
		log.n = n
		r := NewReader(log)
		if err := r.Replay(NewRTMR2([48]byte{})); err != nil || r.Entries != int64(n) {
			t.Fatal(err, r.Entries)
		}
	})
}
