package logs

import (
	"crypto"
	"crypto/sha512"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-eventlog/tcg"
)

// All in one run: go test -run '^$' -bench . ./logs
// "bare" is SHA-384 of as many extends, on the same digests, and nothing else.

func benchCCEL(b *testing.B) ([]byte, Registers) {
	raw := moduleCCEL(b, "ubuntu-2404-intel-tdx.bin")
	registers, err := ReplayBootLog(raw)
	if err != nil {
		b.Fatal(err)
	}
	return raw, registers
}

func BenchmarkCCEL(b *testing.B) {
	raw, registers := benchCCEL(b)
	log, err := ParseBootLog(raw)
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
			if got, err := ReplayBootLog(raw); err != nil || got != registers {
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
			if _, err := ParseBootLog(raw); err != nil {
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

// imaLog makes a log of n entries, in their ASCII or binary form, as it is
// read: nothing holds the whole of it.
type imaLog struct {
	entries []string
	n       int
	rest    string
}

func newIMALog(n int, form func(kernelEntry) string) *imaLog {
	l := &imaLog{n: n}
	for i := range 1000 {
		path := fmt.Sprintf("/system.slice/docker-%064x.scope", i%50)
		l.entries = append(l.entries, form(inCgroup(path, fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i))))
	}
	return l
}

func (l *imaLog) Read(p []byte) (int, error) {
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

func asciiForm(k kernelEntry) string  { return k.ascii(crypto.SHA384) }
func binaryForm(k kernelEntry) string { return k.binary(crypto.SHA384) }

func BenchmarkIMA(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n, "/bare"), func(b *testing.B) { bare(b, make([][48]byte, n)) })
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
					log := newIMALog(0, form.of)
					for b.Loop() {
						log.n = n
						r := NewIMAReader(log)
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

// BenchmarkRatios measures in turns and keeps the best of each, which holds on
// a busy machine too: -bench Ratios -benchtime 1x. Beside go-eventlog the sums
// count, for collecting its garbage is part of its cost.
func BenchmarkRatios(b *testing.B) {
	raw, registers := benchCCEL(b)
	var digests [][48]byte
	for _, e := range mustParse(b, raw).UnverifiedEvents() {
		if _, ok := e.Extends(); ok {
			digests = append(digests, e.Digest)
		}
	}
	b.Run("CCEL", func(b *testing.B) {
		best, sum := inTurns(500, func() { extendAll(digests) }, func() { ReplayBootLog(raw) }, func() { oracleReplay(raw, registers) })
		b.ReportMetric(best[1]/best[0], "of-bare")
		b.ReportMetric(sum[2]/sum[1], "times-as-fast-as-go-eventlog")
	})
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint("IMA", n), func(b *testing.B) {
			zeros, ascii, binary := make([][48]byte, n), newIMALog(0, asciiForm), newIMALog(0, binaryForm)
			replay := func(log *imaLog) func() {
				return func() {
					log.n = n
					if err := NewIMAReader(log).Replay(NewRTMR2([48]byte{})); err != nil {
						b.Fatal(err)
					}
				}
			}
			best, _ := inTurns(8, func() { extendAll(zeros) }, replay(ascii), replay(binary))
			b.ReportMetric(best[1]/best[0], "ascii-of-bare")
			b.ReportMetric(best[2]/best[0], "binary-of-bare")
		})
	}
}

// inTurns gives each function's best time and the sum of all, in seconds.
func inTurns(rounds int, work ...func()) (best, sum []float64) {
	best, sum = make([]float64, len(work)), make([]float64, len(work))
	for range rounds {
		for i, f := range work {
			start := time.Now()
			f()
			d := time.Since(start).Seconds()
			if sum[i] += d; best[i] == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	return best, sum
}

func BenchmarkEvent(b *testing.B) {
	e := mustEvent(b, OpExtend)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseEvent(e.Bytes()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestIMAMemoryIsConstant(t *testing.T) {
	for _, form := range []func(kernelEntry) string{asciiForm, binaryForm} {
		few, many := imaAllocs(t, 1000, form), imaAllocs(t, 50_000, form)
		if many > few {
			t.Errorf("%v allocations for 1000 entries, %v for 50000", few, many)
		}
	}
}

func imaAllocs(t *testing.T, n int, form func(kernelEntry) string) float64 {
	log := newIMALog(0, form)
	return testing.AllocsPerRun(3, func() {
		log.n = n
		r := NewIMAReader(log)
		if err := r.Replay(NewRTMR2([48]byte{})); err != nil || r.Entries != int64(n) {
			t.Fatal(err, r.Entries)
		}
	})
}
