package ima

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
)

func TestEveryTemplateRecomputes(t *testing.T) {
	for _, alg := range hashes {
		var ascii, bin string
		for _, k := range everyTemplate() {
			ascii, bin = ascii+k.ascii(alg), bin+k.binary(alg)
		}
		for form, raw := range map[string]string{"ascii": ascii, "binary": bin} {
			r := NewReader(strings.NewReader(raw))
			r.Check = true
			i := 0
			for e, err := range r.UnverifiedEntries() {
				if err != nil {
					t.Fatalf("%s %s: %v", alg, form, err)
				}
				sameEntry(t, alg, form, e, everyTemplate()[i])
				i++
			}
			if i != len(everyTemplate()) || r.Skipped+r.Mismatched != 0 || r.Violations != 1 {
				t.Errorf("%s %s: %d entries, %d skipped (%v), %d mismatched", alg, form, i, r.Skipped, r.LastSkip(), r.Mismatched)
			}
		}
	}
}

func sameEntry(t *testing.T, alg crypto.Hash, form string, e *Entry, want kernelEntry) {
	t.Helper()
	if e.PCR != want.pcr || e.Template() != want.template || e.Violation != want.violated || e.matches == want.violated {
		t.Errorf("%s %s %s: %+v", alg, form, want.template, e)
	}
	if line := strings.TrimSuffix(want.ascii(alg), "\n"); e.String() != line {
		t.Errorf("%s %s\n got %s\nwant %s", alg, form, e, line)
	}
	path, ok := e.CgroupPath()
	if ok != (want.template == "ima-cgpath") || ok && string(path) != cgroupA {
		t.Errorf("%s %s: cgroup %q %v", form, want.template, path, ok)
	}
}

// One bit is flipped in each entry, and must be noticed.
func TestForgedEntriesAreNoticed(t *testing.T) {
	for _, k := range everyTemplate() {
		if k.violated {
			continue
		}
		for form, raw := range map[string]string{"ascii": k.ascii(crypto.SHA256), "binary": k.binary(crypto.SHA256)} {
			last := strings.LastIndexAny(raw, "0123456789abcdef/etruhl")
			b := []byte(raw)
			b[last] ^= 1
			r := NewReader(bytes.NewReader(b))
			r.Check = true
			e, err := r.Next()
			if err == nil && e.matches {
				t.Errorf("%s %s: a changed entry matches", k.template, form)
			}
		}
	}
}
