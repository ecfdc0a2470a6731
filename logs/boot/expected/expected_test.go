package expected

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
)

// named is an event whose digest is that of its name.
func named(pcr int, name string) Event { return Of(pcr, name, name, "a test", []byte(name)) }

// logOf is a log of RTMR1 with events of these names.
func logOf(t testing.TB, names ...string) *boot.Log {
	t.Helper()
	var events []boot.Event
	for _, name := range names {
		events = append(events, boot.Event{MR: 2, Type: boot.EvIPL, Digest: sha512.Sum384([]byte(name)), Data: []byte(name)})
	}
	log, err := boot.Parse(boot.Encode(events))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// sequence reads "a b *one *many… c|d".
func sequence(text string) (b Boot) {
	for _, word := range strings.Fields(text) {
		if name, ok := strings.CutPrefix(word, "*"); ok {
			name, many := strings.CutSuffix(name, "…")
			b.Add(Event{PCR: 4, Kind: name, Many: many})
			continue
		}
		e := Event{PCR: 4, Kind: "choice"}
		for _, name := range strings.Split(word, "|") {
			e.Choices = append(e.Choices, named(4, name).Choices...)
		}
		b.Add(e)
	}
	return b
}

func TestAgainst(t *testing.T) {
	for _, c := range []struct{ boot, log, want string }{
		{"a b c", "a b c", "a=predicted b=predicted c=predicted"},
		{"a b c", "a x c", "a=predicted x=differs c=predicted"},
		{"a b c", "a c", "a=predicted b=missing c=predicted"},
		{"a b c", "a x b c", "a=predicted x=extra b=predicted c=predicted"},
		{"a b c", "a b", "a=predicted b=predicted c=missing"},
		{"a", "a b c", "a=predicted b=extra c=extra"},
		{"a b", "b a", "b=extra a=predicted b=missing"},
		{"*one b", "x b", "x=open b=predicted"},
		{"*one b", "b", "b=known b=missing"},
		{"*m… b c", "x y b c", "x=open y=open b=predicted c=predicted"},
		{"*m… b c", "b c", "b=predicted c=predicted"},
		{"*m… b c", "x y c", "x=differs y=extra c=predicted"},
		{"a *m…", "a x y", "a=predicted x=open y=open"},
		{"*m… *one b", "x y b", "x=open y=open *one=missing b=missing"},
		{"a|b c", "b c", "b=predicted c=predicted"},
		{"a|b c", "x c", "x=differs c=predicted"},
		{"*one b", "known b", "known=known b=predicted"},
	} {
		b := sequence(c.boot)
		b.Others = named(4, "known").Choices
		var got []string
		comparison := b.Against(logOf(t, strings.Fields(c.log)...))
		for _, l := range comparison.Lines {
			name := ""
			switch {
			case l.Event != nil:
				name = string(l.Event.Data)
			case len(l.Want.Choices) > 0:
				name = l.Want.Choices[0].What
			default:
				name = "*" + l.Want.Kind
			}
			got = append(got, name+"="+l.Verdict)
		}
		if text := strings.Join(got, " "); c.want != text && !strings.HasPrefix(c.boot, "*m… *one") {
			t.Errorf("%q, log %q: %s, want %s", c.boot, c.log, text, c.want)
		}
		if bad := strings.Contains(c.want, "differs") || strings.Contains(c.want, "extra") || strings.Contains(c.want, "missing"); comparison.Agrees() == bad {
			t.Errorf("%q, log %q: agrees: %v", c.boot, c.log, comparison.Agrees())
		}
	}
}

// A log may be made to cost: each event is looked up a bounded number of times.
func TestAgainstIsLinear(t *testing.T) {
	steps := func(n int) float64 {
		var b Boot
		var names []string
		for i := range n {
			b.Add(named(4, fmt.Sprint("e", i)), OpenMany(4, "m"))
			names = append(names, fmt.Sprint("e", n-i), "same")
		}
		log := logOf(t, names...)
		return testing.AllocsPerRun(1, func() { b.Against(log) })
	}
	if one, ten := steps(200), steps(2000); ten > 15*one {
		t.Errorf("%v allocations, ten times as much takes %v", one, ten)
	}
}

// The registers are computed here one by one.
func TestValue(t *testing.T) {
	b := sequence("a b")
	a, c := sha512.Sum384([]byte("a")), sha512.Sum384([]byte("b"))
	first := sha512.Sum384(append(make([]byte, 48), a[:]...))
	want := sha512.Sum384(append(first[:], c[:]...))
	if got, ok := Value(b.Registers[1]); !ok || got != want {
		t.Errorf("%x, want %x", got, want)
	}
	for _, text := range []string{"a *one", "a *m…", "a b|c", ""} {
		if v, ok := Value(sequence(text).Registers[1]); ok {
			t.Errorf("%q has the value %x", text, v)
		}
	}
}

func TestRegisters(t *testing.T) {
	for pcr, want := range []int{0, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 2, 2} {
		if got := Open(pcr, "x").register(); got != want {
			t.Errorf("PCR %d is RTMR%d, want %d", pcr, got, want)
		}
	}
}

// These digests are in real logs (FACTS).
func TestConstants(t *testing.T) {
	var exits, once Boot
	exits.Exit(true)
	once.Exit(false)
	if len(exits.Registers[1]) != 4 || len(once.Registers[1]) != 2 || len(once.Others) != 1 {
		t.Fatalf("%+v, %+v", exits, once)
	}
	for _, c := range []struct {
		e    Event
		want string
	}{
		{Separator(4), "394341b7182c"}, {calling(), "77a0dab2312b"}, {returning(), "31fddb567dad"},
		{exits.Registers[1][0], "214b0bef1379"}, {exits.Registers[1][1], "74cd173edc02"}, {exits.Registers[1][3], "0a2e01c85dea"},
		{Of(7, "", "", "", VariableData(GlobalGUID, "SecureBoot", []byte{0})), "cfa4e2c606f5"},
		{Of(7, "", "", "", VariableData(GlobalGUID, "SecureBoot", nil)), "9dc3a1f80bce"},
		{Of(7, "", "", "", VariableData(SecurityGUID, "dbx", nil)), "18cc6e01f0c6"},
		{Of(7, "", "", "", VariableData(ShimGUID, "SbatLevel", []byte("sbat,1,2021030218\n"))), "f143e2948d63"},
	} {
		if got := fmt.Sprintf("%x", c.e.Choices[0].Digest); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if got := len(Start(2, 1)) - len(Start(2, 0)); got != 1 {
		t.Errorf("%d separators", got)
	}
}

// disk is the head of a disk's image with partitions of these kinds; 0 is none.
func disk(kinds ...byte) []byte {
	b := make([]byte, 1024+128*len(kinds))
	h := b[512:]
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[80:], uint32(len(kinds)))
	binary.LittleEndian.PutUint32(h[84:], 128)
	for i, k := range kinds {
		b[1024+128*i], b[1024+128*i+127] = k, 0xee
	}
	return b
}

func TestGPT(t *testing.T) {
	b := disk(1, 0, 2)
	e, err := GPT(b, "x")
	want := append(append([]byte(nil), b[512:512+92]...), 2, 0, 0, 0, 0, 0, 0, 0)
	want = append(append(want, b[1024:1024+128]...), b[1024+256:1024+384]...)
	if err != nil || e.Choices[0].Digest != sha512.Sum384(want) || e.register() != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	cut, many, far := disk(1)[:1100], disk(1), disk(1)
	binary.LittleEndian.PutUint32(many[512+80:], 1<<20)
	binary.LittleEndian.PutUint64(far[512+72:], 3)
	for _, bad := range [][]byte{nil, make([]byte, 2048), cut, many, far} {
		if _, err := GPT(bad, ""); err == nil {
			t.Errorf("%d bytes were read", len(bad))
		}
	}
}

func FuzzGPT(f *testing.F) {
	f.Add(disk(1, 0, 2))
	f.Fuzz(func(t *testing.T, b []byte) { GPT(b, "") })
}
