package ima

import (
	"crypto"
	"fmt"
	"io"
	"testing"
)

// generated makes a log of n entries, in their ASCII or binary form, as it is
// read: nothing holds the whole of it.
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
