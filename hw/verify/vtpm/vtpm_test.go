package vtpm

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/vtpm/vtpmtest"
)

var asked = DataFor([64]byte{1, 2, 3})

// verified reads and verifies what a TPM in a paravisor signed.
func verified(runtime, message, signature, pcrs []byte, reportData [64]byte) (*Quote, error) {
	r, err := ReadRuntime(runtime)
	if err != nil {
		return nil, err
	}
	if err := r.BoundBy(reportData); err != nil {
		return nil, err
	}
	q, err := Parse(message, signature, pcrs)
	if err != nil {
		return nil, err
	}
	return q, q.Verify(r.AK)
}

func TestQuote(t *testing.T) {
	tpm := vtpmtest.New()
	message := tpm.Attest(asked)
	q, err := verified(tpm.Runtime(), message, tpm.Sign(t, message), tpm.PCRs(), tpm.ReportData())
	if err != nil {
		t.Fatal(err)
	}
	if q.Bank != "sha256" || !bytes.Equal(q.Data, asked) || !bytes.Equal(q.PCR(3), tpm.PCRs()[96:128]) {
		t.Errorf("%+v", q)
	}
}

// TestForms: what a TPM, or whoever has its key, signs in another form is refused.
func TestForms(t *testing.T) {
	tpm := vtpmtest.New()
	good := tpm.Attest(asked)
	name, clock := 6, 6+2+34+2+48 // where the name begins, and behind the data
	selection := clock + 8 + 4 + 4 + 1 + 8
	for what, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"magic":            {func(b []byte) []byte { b[0] = 0; return b }, "must begin with"},
		"another kind":     {func(b []byte) []byte { b[5] = 0x17; return b }, "must begin with"},
		"a long name":      {func(b []byte) []byte { b[name+1] = 67; return b }, "at most 66"},
		"a clock":          {func(b []byte) []byte { b[clock+16] = 2; return b }, "is safe or not"},
		"two banks":        {func(b []byte) []byte { b[selection+3] = 2; return b }, "one bank of PCRs, not 2"},
		"no bank":          {func(b []byte) []byte { b[selection+3] = 0; return b }, "one bank of PCRs, not 0"},
		"SHA-1":            {func(b []byte) []byte { b[selection+5] = 4; return b }, "not of the algorithm 0x4"},
		"a PCR less":       {func(b []byte) []byte { b[selection+8] = 0xFE; return b }, "all of PCRs 0 to 23"},
		"none":             {func(b []byte) []byte { clear(b[selection+7 : selection+10]); return b }, "all of PCRs 0 to 23"},
		"a selection of 2": {func(b []byte) []byte { b[selection+6] = 2; return b }, "all of PCRs 0 to 23"},
		"a byte more":      {func(b []byte) []byte { return append(b, 0) }, "1 bytes stand behind it"},
		"a byte less":      {func(b []byte) []byte { return b[:len(b)-1] }, "it ends after"},
		"nothing":          {func([]byte) []byte { return nil }, "it ends after 0 bytes"},
		"another digest":   {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "not those that the TPM quoted"},
	} {
		message := c.change(slices.Clone(good))
		if _, err := verified(tpm.Runtime(), message, tpm.Sign(t, message), tpm.PCRs(), tpm.ReportData()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, must say %q", what, err, c.want)
		}
	}
	signature := tpm.Sign(t, good)
	for what, c := range map[string]struct{ signature, pcrs []byte }{
		"RSA-PSS":        {append([]byte{0, 0x16}, signature[2:]...), tpm.PCRs()},
		"SHA-384":        {append([]byte{0, 0x14, 0, 0x0C}, signature[4:]...), tpm.PCRs()},
		"a byte more":    {append(slices.Clone(signature), 0), tpm.PCRs()},
		"a byte less":    {signature[:len(signature)-1], tpm.PCRs()},
		"nothing":        {nil, tpm.PCRs()},
		"a PCR more":     {signature, append(tpm.PCRs(), make([]byte, 32)...)},
		"no PCR":         {signature, nil},
		"another's PCRs": {signature, make([]byte, 768)},
	} {
		if _, err := verified(tpm.Runtime(), good, c.signature, c.pcrs, tpm.ReportData()); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// TestBitByBit: no bit of what a paravisor and its TPM made is free.
func TestBitByBit(t *testing.T) {
	tpm := vtpmtest.New()
	message := tpm.Attest(asked)
	parts := [][]byte{tpm.Runtime(), message, tpm.Sign(t, message), tpm.PCRs()}
	for i, part := range parts {
		for bit := range len(part) * 8 {
			all := slices.Clone(parts)
			all[i] = slices.Clone(part)
			all[i][bit/8] ^= 1 << (bit % 8)
			if _, err := verified(all[0], all[1], all[2], all[3], tpm.ReportData()); err == nil {
				t.Errorf("part %d: byte %d, bit %d is free", i, bit/8, bit%8)
			}
		}
	}
}

func TestRuntime(t *testing.T) {
	tpm := vtpmtest.New()
	good := string(tpm.Runtime())
	for what, text := range map[string]string{
		"no JSON":       good[1:],
		"two texts":     good + "{}",
		"a name twice":  strings.Replace(good, `{"keys"`, `{"keys":[],"keys"`, 1),
		"no key":        strings.Replace(good, "HCLAkPub", "HCLEkPub", 1),
		"another case":  strings.Replace(good, `"keys"`, `"Keys"`, 1),
		"two keys":      strings.Replace(good, `"keys":[`, `"keys":[`+good[strings.Index(good, `{"kid"`):strings.Index(good, `],"vm-`)]+",", 1),
		"an exponent":   strings.Replace(good, "AQAB", "Aw", 1),
		"that decrypts": strings.Replace(good, `["sign"]`, `["sign","decrypt"]`, 1),
		"of a curve":    strings.Replace(good, `"RSA"`, `"EC"`, 1),
		"too short":     strings.Replace(good, `"n":"`, `"n":"AAAA`, 1),
		"too long":      good[:len(good)-1] + `,"x":"` + strings.Repeat("x", maxRuntime) + `"}`,
	} {
		if _, err := ReadRuntime([]byte(text)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	r, err := ReadRuntime([]byte(good[:len(good)-1] + `,"newer":1}`))
	if err != nil {
		t.Fatal(err)
	}
	data := tpm.ReportData()
	if r.BoundBy(data) == nil {
		t.Error("a text of another hash is bound")
	}
	r, _ = ReadRuntime([]byte(good))
	for i := range data {
		other := data
		other[i] ^= 1
		if r.BoundBy(other) == nil {
			t.Errorf("report data that differ in byte %d bind", i)
		}
	}
}

func TestLog(t *testing.T) {
	tpm := vtpmtest.New()
	l, err := ReadLog(tpm.Log)
	if err != nil {
		t.Fatal(err)
	}
	values, err := l.Replay("sha256")
	if err != nil || !bytes.Equal(bytes.Join(values[:], nil), tpm.PCRs()) {
		t.Errorf("the log doesn't replay: %v", err)
	}
	if _, err := l.Replay("sha512"); err == nil {
		t.Error("a bank that isn't there replays")
	}
	if large, err := l.Replay("sha384"); err != nil || len(large[0]) != 48 || large[20][47] != 0xFF {
		t.Errorf("sha384: %v", err)
	}
	if want := sha256.Sum256([]byte("part 0 of the boot")); l.Len() != 18 || !bytes.Equal(l.events[0].digests[algSHA256], want[:]) {
		t.Errorf("%d events, %x", l.Len(), l.events[0].digests[algSHA256])
	}

	other := vtpmtest.New()
	other.Log = other.Log[:len(other.Log):len(other.Log)]
	other.Measure(0, noAction, []byte("StartupLocality\x00\x03"))
	if l, err := ReadLog(other.Log); err != nil {
		t.Error(err)
	} else if again, _ := l.Replay("sha256"); bytes.Equal(again[0], values[0]) || !bytes.Equal(again[1], values[1]) {
		t.Error("the locality of PCR 0 counts for nothing, or for others")
	}
	other.Measure(0, noAction, []byte("StartupLocality\x00\x03"))
	for what, log := range map[string][]byte{
		"two localities":   other.Log,
		"nothing":          nil,
		"no header":        tpm.Log[len(tpm.Log)-100:],
		"cut off":          tpm.Log[:len(tpm.Log)-1],
		"padded":           append(slices.Clone(tpm.Log), 0xFF, 0xFF, 0xFF, 0xFF),
		"PCR 24":           with(tpm.Log, 69, 24),
		"PCR -2^31":        with(tpm.Log, 69+3, 0x80),
		"a digest less":    with(tpm.Log, 69+8, 1),
		"an unknown bank":  with(tpm.Log, 69+12, 4),
		"one bank twice":   with(tpm.Log, 69+12+34, 0x0B),
		"no bank":          with(tpm.Log, 56, 0),
		"nine banks":       with(tpm.Log, 56, 9),
		"SHA-256 of 20":    with(tpm.Log, 62, 20),
		"of another kind":  with(tpm.Log, 4, 4),
		"another spec":     with(tpm.Log, 32, 'X'),
		"a vendor's bytes": with(tpm.Log, 68, 1),
	} {
		if _, err := ReadLog(log); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// with is b with one byte changed.
func with(b []byte, at int, value byte) []byte {
	b = slices.Clone(b)
	b[at] = value
	return b
}

func FuzzQuote(f *testing.F) {
	tpm := vtpmtest.New()
	message := tpm.Attest(asked)
	signature := tpm.Sign(f, message)
	f.Add(tpm.Runtime(), message, signature, tpm.PCRs())
	f.Fuzz(func(t *testing.T, runtime, m, s, pcrs []byte) {
		if _, err := verified(runtime, m, s, pcrs, tpm.ReportData()); err == nil && !bytes.Equal(m, message) {
			t.Error("a quote that the key didn't sign is taken")
		}
	})
}

func FuzzReadLog(f *testing.F) {
	f.Add(vtpmtest.New().Log)
	f.Add(with(vtpmtest.New().Log, 69+3, 0x80))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ReadLog(b)
		if err != nil {
			return
		}
		for _, bank := range []string{"sha256", "sha384"} {
			_, _ = l.Replay(bank)
		}
	})
}
