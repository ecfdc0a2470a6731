package ima

import (
	"bytes"
	"crypto"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/logstest"
)

func growingEntries(sizes ...int) (log string) {
	for _, n := range sizes {
		log += "10 " + strings.Repeat("a", 40) + " ima-ng sha1:00 " + strings.Repeat("x", n) + "\n"
	}
	return log
}

func FuzzReader(f *testing.F) {
	for _, alg := range hashes {
		var ascii, bin string
		for _, k := range everyTemplate() {
			ascii, bin = ascii+k.ascii(alg), bin+k.binary(alg)
		}
		f.Add([]byte(ascii), true)
		f.Add([]byte(bin), true)
		f.Add([]byte(ascii), false)
		f.Add([]byte(bin), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, check bool) {
		r := NewReader(bytes.NewReader(b))
		r.Check = check
		logstest.Bounded(t, len(b), func() { r.Replay(NewRTMR2([48]byte{})) })
		whole := lines(t, bytes.NewReader(b), check)
		if parts := lines(t, &growing{data: b}, check); parts != whole {
			t.Errorf("read in pieces:\n%s\nas a whole:\n%s", parts, whole)
		}
	})
}

// lines reads a log and writes its entries with their fields.
func lines(t *testing.T, src io.Reader, check bool) string {
	r := NewReader(src)
	r.Check = check
	var s strings.Builder
	for e, err := range r.UnverifiedEntries() {
		if err != nil {
			s.WriteString(err.Error())
			break
		}
		e.CgroupPath()
		if e.matches && e.Violation {
			t.Error("a violation matches")
		}
		s.WriteString(e.String() + "\n")
		if s.Len() > 1<<20 {
			break
		}
	}
	return s.String()
}

func TestNonEntriesAreSkipped(t *testing.T) {
	good := everyTemplate()[0].ascii(crypto.SHA256)
	long := strings.Repeat("x", 3*maxEntry) + "\n"
	raw := good + "garbage\n" + "\n" + "10 zz ima-ng a b\n" + " 10 " + strings.Repeat("g", 64) + " ima-ng a b\n" +
		good + long + "300 " + strings.Repeat("a", 64) + " ima-ng a b\n" + good + "10 " + strings.Repeat("a", 64) + "\n" + strings.TrimSuffix(good, "\n")
	r := NewReader(iotest.OneByteReader(strings.NewReader(raw)))
	for range 4 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if r.Entries != 4 || r.Skipped != 7 || r.LastSkip() == nil {
		t.Errorf("%d entries, %d skipped: %v", r.Entries, r.Skipped, r.LastSkip())
	}
}

// The name of a file holds a newline and a whole forged entry.
func TestNamesWithNewlines(t *testing.T) {
	plain := kernelEntry{2, "ima-cgpath", []kernelField{text("a"), text(cgroupA), algoDigest("sha384", 1, 48), text("/bin/sh")}, false}
	forged := strings.TrimSuffix(plain.ascii(crypto.SHA384), "\n")
	evil := kernelEntry{2, "ima-sig", []kernelField{algoDigest("sha384", 9, 48), text("/tmp/x\n" + forged + "\n\n"), {}}, false}
	raw := plain.ascii(crypto.SHA384) + evil.ascii(crypto.SHA384) + plain.ascii(crypto.SHA384)

	want := NewRTMR2([48]byte{})
	bin := NewReader(strings.NewReader(plain.binary(crypto.SHA384) + evil.binary(crypto.SHA384) + plain.binary(crypto.SHA384)))
	if err := bin.Replay(want); err != nil || bin.Entries != 3 {
		t.Fatal(err, bin.Entries)
	}
	for _, check := range []bool{true, false} {
		got := NewRTMR2([48]byte{})
		r := NewReader(iotest.HalfReader(strings.NewReader(raw)))
		r.Check = check
		err := r.Replay(got)
		if err != nil || r.Entries != 3 || !bytes.Equal(got.Value(), want.Value()) {
			t.Errorf("%d entries, %x, want %x (%v)", r.Entries, got.Value(), want.Value(), err)
		}
		if r.Mismatched != 0 || check != (r.Skipped == 0) {
			t.Errorf("check %v: %d skipped, %d mismatched", check, r.Skipped, r.Mismatched)
		}
	}
}

func TestSharedIMALogs(t *testing.T) {
	for name, want := range map[string]int64{"evidence-api/ima-cgpath.ascii": 694, "keylime/ima-ng.ascii": 826, "evidence-api/ima.ascii": 1} {
		raw := logstest.SharedFile(t, name)
		r := NewReader(bytes.NewReader(raw))
		r.Check = true
		matches := int64(0)
		var again []byte
		for e, err := range r.UnverifiedEntries() {
			if err != nil {
				t.Fatal(err)
			}
			if e.matches {
				matches++
			}
			again = append(append(again, e.String()...), '\n')
		}
		if r.Entries != want || matches != want || r.Skipped+r.Violations+r.Mismatched != 0 {
			t.Errorf("%s: %d of %d template hashes recompute, expected %d", name, matches, r.Entries, want)
		}
		if !bytes.Equal(again, raw) {
			t.Errorf("%s: entries don't write as they were read", name)
		}
	}
}

// Inputs that could cost most, at a size where it would show.
func TestAllocationIsBounded(t *testing.T) {
	const size = 256 << 10
	entry := everyTemplate()[1].ascii(crypto.SHA1)
	for _, unit := range []string{
		"\n", "x\n", "1 \n", "[", "\x00", "\xff",
		"10 " + strings.Repeat("a", 40) + " ima-ng \n", "10 " + strings.Repeat("a", 40) + " ima a\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng a b\n10 " + strings.Repeat("a", 40) + " ima-buf a b c\n",
		strings.Replace(entry, "e", "f", 1), everyTemplate()[11].ascii(crypto.SHA1),
		everyTemplate()[1].binary(crypto.SHA1), everyTemplate()[11].binary(crypto.SHA1),
		strings.Repeat("{", 100) + "\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng sha1:00 " + strings.Repeat("x", 140_000) + "\n",
		growingEntries(50_000, 50_100, 100_200), growingEntries(100, 170, 250, 350, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000),
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		logstest.Bounded(t, len(b), func() { NewReader(bytes.NewReader(b)).Replay(NewRTMR2([48]byte{})) })
		logstest.Bounded(t, len(b), func() {
			r := NewReader(bytes.NewReader(b))
			r.Check = true
			r.Replay(NewPCR(alg.SHA256, 10))
		})
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
