package logs

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// kernelEntry is an entry as the kernel has it before it is shown: what
// ima_init_template and ima_store_template make. It is written from the kernel's
// sources, apart from the code under test.
type kernelEntry struct {
	pcr      uint32
	template string
	fields   []kernelField
	violated bool
}

type kernelField struct {
	data  string // as hashed
	ascii string // as shown
}

func algoDigest(algo string, fill byte, n int) kernelField {
	d := strings.Repeat(string([]byte{fill}), n)
	return kernelField{algo + ":\x00" + d, algo + ":" + hex.EncodeToString([]byte(d))}
}
func text(s string) kernelField {
	s = strings.ReplaceAll(s, " ", "_") // ima_write_template_field_data
	return kernelField{s + "\x00", s}
}
func hexed(s string) kernelField { return kernelField{s, hex.EncodeToString([]byte(s))} }
func le(n, size int) string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(n))
	return string(b[:size])
}
func number(n, s int) kernelField { return kernelField{le(n, s), fmt.Sprint(n)} }

func (k kernelEntry) hash(alg crypto.Hash) []byte {
	h := alg.New()
	if k.violated {
		return make([]byte, alg.Size())
	}
	for _, f := range k.fields {
		if k.template != "ima" {
			io.WriteString(h, le(len(f.data), 4))
		}
		io.WriteString(h, f.data)
	}
	if k.template == "ima" { // the name fills 256 bytes
		h.Write(make([]byte, 256-len(k.fields[1].data)))
	}
	return h.Sum(nil)
}

func (k kernelEntry) ascii(alg crypto.Hash) string {
	line := fmt.Sprintf("%2d %x %s", k.pcr, k.hash(alg), k.template)
	for _, f := range k.fields {
		line += " " + f.ascii
	}
	return line + "\n"
}

func (k kernelEntry) binary(alg crypto.Hash) string {
	var data string
	for i, f := range k.fields {
		if k.template == "ima" && i == 0 {
			data += f.data
		} else {
			data += le(len(f.data), 4) + f.data
		}
	}
	rec := le(int(k.pcr), 4) + string(k.hash(alg)) + le(len(k.template), 4) + k.template
	if k.template != "ima" {
		rec += le(len(data), 4)
	}
	return rec + data
}

const cgroupA = "/system.slice/docker-" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + ".scope"

func everyTemplate() []kernelEntry {
	d, n := algoDigest("sha256", 7, 32), text("/usr/bin/true")
	return []kernelEntry{
		{10, "ima-ng", []kernelField{algoDigest("sha256", 1, 32), text("boot_aggregate")}, false},
		{10, "ima-sig", []kernelField{d, n, hexed("\x03\x02\x04signature")}, false},
		{10, "ima-sig", []kernelField{d, n, {}}, false}, // no signature: an empty field
		{10, "ima-ngv2", []kernelField{algoDigest("verity:sha256", 2, 32), n}, false},
		{10, "ima-sigv2", []kernelField{algoDigest("ima:sha512", 2, 64), n, hexed("sig")}, false},
		{10, "ima-buf", []kernelField{d, text("kernel_version"), hexed("6.16.0")}, false},
		{10, "ima-modsig", []kernelField{d, n, {}, algoDigest("sha256", 3, 32), hexed("pkcs7")}, false},
		{10, "evm-sig", []kernelField{d, n, hexed("evm"), text("security.ima|security.selinux"), hexed("\x01\x00\x00\x00"), hexed("v"), number(1000, 4), number(100, 4), number(0o100644, 2)}, false},
		{2, "ima-cgpath", []kernelField{text("/usr/bin/runc:swapper/0"), text(cgroupA), d, n}, false},
		{10, "ima-dep-cgn", []kernelField{text("/usr/bin/runc:swapper/0"), text("docker-x.scope"), d, n}, false},
		{10, "n-ng|d-ng|imode", []kernelField{n, d, number(7, 2)}, false},
		{10, "ima", []kernelField{{strings.Repeat("\x05", 20), strings.Repeat("05", 20)}, {"/bin/sh", "/bin/sh"}}, false},
		{10, "ima-ng", []kernelField{algoDigest("sha1", 0, 20), text("/var/log/wtmp")}, true},
	}
}

var imaHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384}

func TestEveryTemplateRecomputes(t *testing.T) {
	for _, alg := range imaHashes {
		var ascii, bin string
		for _, k := range everyTemplate() {
			ascii, bin = ascii+k.ascii(alg), bin+k.binary(alg)
		}
		for form, raw := range map[string]string{"ascii": ascii, "binary": bin} {
			r := NewIMAReader(strings.NewReader(raw))
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

func sameEntry(t *testing.T, alg crypto.Hash, form string, e *IMAEntry, want kernelEntry) {
	t.Helper()
	if e.PCR != want.pcr || e.Template() != want.template || e.Violation != want.violated || e.Matches == want.violated {
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

// Every hash in the log is flipped by one bit: each must be noticed.
func TestForgedEntriesAreNoticed(t *testing.T) {
	for _, k := range everyTemplate() {
		if k.violated {
			continue
		}
		for form, raw := range map[string]string{"ascii": k.ascii(crypto.SHA256), "binary": k.binary(crypto.SHA256)} {
			last := strings.LastIndexAny(raw, "0123456789abcdef/etruhl")
			b := []byte(raw)
			b[last] ^= 1
			r := NewIMAReader(bytes.NewReader(b))
			r.Check = true
			e, err := r.Next()
			if err == nil && e.Matches {
				t.Errorf("%s %s: a changed entry matches", k.template, form)
			}
		}
	}
}

func TestReplayPCRAndRTMR2(t *testing.T) {
	extend := func(alg crypto.Hash, register, digest []byte) []byte {
		h := alg.New()
		h.Write(register)
		h.Write(digest)
		return h.Sum(nil)
	}
	for _, logAlg := range imaHashes {
		var raw string
		for _, k := range everyTemplate() {
			raw += k.ascii(logAlg)
		}
		banks := map[crypto.Hash]AlgID{crypto.SHA1: AlgSHA1, crypto.SHA256: AlgSHA256, crypto.SHA384: AlgSHA384}
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
			if err := NewIMAReader(strings.NewReader(raw)).Replay(pcr); err != nil || !bytes.Equal(pcr.Value(), want) {
				t.Errorf("log %s, bank %s: %x, want %x (%v)", logAlg, bank, pcr.Value(), want, err)
			}
		}
	}
	booted := [48]byte{1, 2, 3}
	k := everyTemplate()[8]
	rtmr2 := NewRTMR2(booted)
	if err := NewIMAReader(strings.NewReader(k.ascii(crypto.SHA384))).Replay(rtmr2); err != nil {
		t.Fatal(err)
	}
	if want := extend(crypto.SHA384, booted[:], k.hash(crypto.SHA384)); !bytes.Equal(rtmr2.Value(), want) {
		t.Errorf("RTMR2 %x, want %x", rtmr2.Value(), want)
	}
}

func TestUnknownTemplateIsKept(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	r := NewIMAReader(strings.NewReader(" 10 " + hash + " ima-new sha256:00 a b\n"))
	r.Check = true
	e, err := r.Next()
	if err != nil || e.Template() != "ima-new" || len(e.Fields()) != 1 || e.Fields()[0] != (IMAField{"raw", "sha256:00 a b"}) {
		t.Fatalf("%v, %v", e, err)
	}
	if r.Unchecked != 1 || r.Mismatched != 0 {
		t.Errorf("unchecked %d, mismatched %d", r.Unchecked, r.Mismatched)
	}
	if err := NewPCR(AlgSHA1, 10).Extend(e); err == nil {
		t.Error("a digest was made up for a bank that the log doesn't tell of")
	}
}

func TestWhatIsNoEntryIsPassedOver(t *testing.T) {
	good := everyTemplate()[0].ascii(crypto.SHA256)
	long := strings.Repeat("x", 3*maxIMAEntry) + "\n"
	raw := good + "garbage\n" + "\n" + "10 zz ima-ng a b\n" + " 10 " + strings.Repeat("g", 64) + " ima-ng a b\n" +
		good + long + "300 " + strings.Repeat("a", 64) + " ima-ng a b\n" + good + "10 " + strings.Repeat("a", 64) + "\n" + strings.TrimSuffix(good, "\n")
	r := NewIMAReader(iotest.OneByteReader(strings.NewReader(raw)))
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

// The bound of an entry is the same however much is read at once.
func TestLongestEntry(t *testing.T) {
	head := "10 " + strings.Repeat("ab", 20) + " ima-ng sha1:00 "
	for size, want := range map[int]int64{maxIMAEntry - 1: 2, maxIMAEntry: 2, maxIMAEntry + 1: 1, maxIMAEntry * 3 / 2: 1} {
		raw := []byte(head + strings.Repeat("x", size-len(head)) + "\n" + head + "y\n")
		for name, src := range map[string]io.Reader{"whole": bytes.NewReader(raw), "in pieces": &growing{data: raw}} {
			r := NewIMAReader(src)
			if err := r.Replay(); err != nil || r.Entries != want || r.Skipped != 2-want {
				t.Errorf("%d bytes, %s: %d entries, %d skipped, %v", size, name, r.Entries, r.Skipped, err)
			}
		}
	}
}

func TestBrokenBinaryRecords(t *testing.T) {
	good := everyTemplate()[0].binary(crypto.SHA384)
	huge := good[:4+48+4+6] + le(5<<20, 4) + strings.Repeat("\x00", 5<<20)
	r := NewIMAReader(strings.NewReader(good + huge + good + good[:60]))
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF || r.Skipped != 2 {
		t.Errorf("%v, %d skipped: %v", err, r.Skipped, r.LastSkip())
	}
	r = NewIMAReader(strings.NewReader(good + strings.Repeat("\x00", 100) + good))
	r.Next()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("a record without a name: %v", err)
	}
	if _, err := NewIMAReader(strings.NewReader("\x0a\x00\x00\x00" + strings.Repeat("\xFF", 200))).Next(); err == nil || err == io.EOF {
		t.Errorf("no IMA log: %v", err)
	}
}

// A file whose name holds a newline and a whole forged entry.
func TestNamesWithNewlines(t *testing.T) {
	plain := kernelEntry{2, "ima-cgpath", []kernelField{text("a"), text(cgroupA), algoDigest("sha384", 1, 48), text("/bin/sh")}, false}
	forged := strings.TrimSuffix(plain.ascii(crypto.SHA384), "\n")
	evil := kernelEntry{2, "ima-sig", []kernelField{algoDigest("sha384", 9, 48), text("/tmp/x\n" + forged + "\n\n"), {}}, false}
	raw := plain.ascii(crypto.SHA384) + evil.ascii(crypto.SHA384) + plain.ascii(crypto.SHA384)

	want := NewRTMR2([48]byte{})
	bin := NewIMAReader(strings.NewReader(plain.binary(crypto.SHA384) + evil.binary(crypto.SHA384) + plain.binary(crypto.SHA384)))
	if err := bin.Replay(want); err != nil || bin.Entries != 3 {
		t.Fatal(err, bin.Entries)
	}
	for _, check := range []bool{true, false} {
		got := NewRTMR2([48]byte{})
		r := NewIMAReader(iotest.HalfReader(strings.NewReader(raw)))
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
