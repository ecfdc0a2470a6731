package firmware

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/logs/logstest"
)

func parsed(t testing.TB, file []byte) *Image {
	t.Helper()
	m, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// MRTD is computed here from records that are written out one after the other.
func TestMRTD(t *testing.T) {
	file := boottest.Firmware(boottest.Parts())
	m := parsed(t, file)
	record := func(name string, address uint64) []byte {
		b := make([]byte, 128)
		copy(b, name)
		binary.LittleEndian.PutUint64(b[16:], address)
		return b
	}
	page := func(address uint64, data []byte) (b []byte) {
		for i := 0; i < len(data); i += 256 {
			b = slices.Concat(b, record("MR.EXTEND", address+uint64(i)), data[i:i+256])
		}
		return b
	}
	const code = 0xffffe000
	cfv := slices.Concat(record("MEM.PAGE.ADD", 0xffc00000), record("MEM.PAGE.ADD", 0xffc01000))
	rest := slices.Concat(record("MEM.PAGE.ADD", 0x809000), record("MEM.PAGE.ADD", 0x80a000), record("MEM.PAGE.ADD", 0x80b000))
	one, two := record("MEM.PAGE.ADD", code), record("MEM.PAGE.ADD", code+0x1000)
	first, second := page(code, file[0x2000:0x3000]), page(code+0x1000, file[0x3000:0x4000])
	if got, want := m.MRTD(ByPage), sha512.Sum384(slices.Concat(cfv, one, first, two, second, rest)); got != want {
		t.Errorf("by page: %x, want %x", got, want)
	}
	if got, want := m.MRTD(BySection), sha512.Sum384(slices.Concat(cfv, one, two, first, second, rest)); got != want {
		t.Errorf("by section: %x, want %x", got, want)
	}
	augmented := boottest.Parts()
	augmented[3].Attr = attrAugment
	if parsed(t, boottest.Firmware(augmented)).MRTD(ByPage) == m.MRTD(ByPage) {
		t.Error("memory that is added later counts")
	}
}

func TestHandoff(t *testing.T) {
	m := parsed(t, boottest.Firmware(boottest.Parts()))
	for memory, blocks := range map[uint64]int{1 << 30: 4, 0xb0000000 - 4096: 4, 0xb0000000: 5, 64 << 30: 5} {
		b, err := m.handoffBlocks(memory)
		if err != nil || len(b) != 56+48*blocks {
			t.Errorf("%#x: %d bytes, %v", memory, len(b), err)
			continue
		}
		total := uint64(0)
		for at := 56; at < len(b); at += 48 {
			total += binary.LittleEndian.Uint64(b[at+40:])
		}
		if end := binary.LittleEndian.Uint64(b[48:]); total != memory || end != 0x809000+uint64(len(b))+8 {
			t.Errorf("%#x: blocks of %#x bytes, end %#x", memory, total, end)
		}
	}
	for _, memory := range []uint64{0, 1 << 20, 1<<30 + 1, 1 << 50} {
		if _, err := m.handoffBlocks(memory); err == nil {
			t.Errorf("%#x bytes of memory", memory)
		}
	}
}

func TestVariables(t *testing.T) {
	file := boottest.Firmware(boottest.Parts(),
		boottest.Variable{GUID: expected.GlobalGUID, Name: "PK", Value: "old", State: 0x3c},
		boottest.Variable{GUID: expected.GlobalGUID, Name: "PK", Value: "owner's", State: 0x3f},
		boottest.Variable{GUID: expected.SecurityGUID, Name: "db", Value: "keys", State: 0x3f},
		boottest.Variable{GUID: expected.GlobalGUID, Name: "db", Value: "another vendor's", State: 0x3f})
	list, err := parsed(t, file).variables()
	if err != nil || len(list) != 3 || list[0].name != "PK" || string(list[0].value) != "owner's" {
		t.Fatalf("%+v, %v", list, err)
	}
	var b expected.Boot
	if err := parsed(t, file).Events(&b, Setup{Memory: 4 << 30, SecureBoot: "on", Separator: 1}, "x.fd"); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int][]byte{
		1: file[:0x2000],
		2: expected.VariableData(expected.GlobalGUID, "SecureBoot", []byte{1}),
		3: expected.VariableData(expected.GlobalGUID, "PK", []byte("owner's")),
		4: expected.VariableData(expected.GlobalGUID, "KEK", nil),
		5: expected.VariableData(expected.SecurityGUID, "db", []byte("keys")),
		7: {0, 0, 0, 0},
	} {
		if e := b.Registers[0][at]; !e.IsKnown() || e.Choices[0].Digest != sha512.Sum384(want) {
			t.Errorf("event %d is %+v", at, e)
		}
	}
}

// What nobody says stays open, and is named.
func TestOpenEvents(t *testing.T) {
	m := parsed(t, boottest.Firmware(boottest.Parts()))
	var b expected.Boot
	if err := m.Events(&b, Setup{}, "x.fd"); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range b.Registers[0] {
		if !e.IsKnown() {
			kinds = append(kinds, e.Kind)
		}
	}
	if want := []string{"hob", "secure-boot", "acpi", "acpi", "acpi", "boot", "authority"}; !slices.Equal(kinds, want) || len(b.Notes) != 4 {
		t.Errorf("%q, %q", kinds, b.Notes)
	}
	b = expected.Boot{}
	acpi := [][]byte{[]byte("loader"), []byte("rsdp"), []byte("tables")}
	if err := m.Events(&b, Setup{Memory: 1 << 30, SecureBoot: "off", ACPI: acpi, Separator: 1}, "x.fd"); err != nil {
		t.Fatal(err)
	}
	if e := b.Registers[0][9]; e.Choices[0].Digest != sha512.Sum384([]byte("rsdp")) {
		t.Errorf("%+v", e)
	}
	for _, bad := range []Setup{{SecureBoot: "maybe"}, {ACPI: acpi[:2]}, {Memory: 7}} {
		if err := m.Events(&expected.Boot{}, bad, ""); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestRefused(t *testing.T) {
	change := func(i int, f func(*boottest.Part)) []byte {
		parts := boottest.Parts()
		f(&parts[i])
		return boottest.Firmware(parts)
	}
	for want, file := range map[string][]byte{
		"table of GUIDs must end": make([]byte, 100),
		"whole pages":             change(2, func(p *boottest.Part) { p.Address++ }),
		"outside the file":        change(1, func(p *boottest.Part) { p.Offset = 1 << 20 }),
		"is measured, and has":    change(1, func(p *boottest.Part) { p.Raw = 0x1000 }),
		"a payload":               change(3, func(p *boottest.Part) { p.Kind = 5 }),
		"only 1 and 2 are known":  change(3, func(p *boottest.Part) { p.Attr = 4 }),
		"must have at most":       change(3, func(p *boottest.Part) { p.Size = 1 << 40 }),
		"announce 99 sections":    boottest.Firmware(slices.Repeat(boottest.Parts()[:1], 99)[:20]),
	} {
		if strings.HasPrefix(want, "announce") {
			at := bytes.Index(file, []byte("TDVF"))
			file[at+12] = 99
		}
		if _, err := Parse(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(boottest.Firmware(boottest.Parts()))
	f.Add(boottest.Firmware(boottest.Parts(), boottest.Variable{GUID: expected.GlobalGUID, Name: "PK", Value: "x", State: 0x3f}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		m.MRTD(ByPage)
		logstest.Bounded(t, len(b)+maxVariables*64, func() { m.variables() })
		m.Events(&expected.Boot{}, Setup{Memory: 1 << 30}, "")
	})
}
