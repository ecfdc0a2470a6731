package direct

import (
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/boot/expected"
)

func files() Files {
	return Files{Kernel: boottest.Kernel("k"), KernelName: "k", Initrd: []byte("initrd"), InitrdName: "i", Line: "ro", Memory: 2 << 30, Handover: Raw, Separator: 1}
}

func booted(t *testing.T, f Files) expected.Boot {
	t.Helper()
	var b expected.Boot
	if err := Boot(&b, f); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBoot(t *testing.T) {
	b := booted(t, files())
	if len(b.Registers[1]) != 5 || len(b.Registers[2]) != 2 || b.Line != "ro initrd=initrd" || len(b.Others) != 3 {
		t.Fatalf("%+v", b)
	}
	p, err := authenticode.Parse(files().Kernel)
	if err != nil || b.Registers[1][0].Choices[0].Digest != p.Digest() {
		t.Errorf("the kernel: %v", err)
	}
	if b.Registers[2][0].Choices[0].Digest != sha512.Sum384([]byte("r\x00o\x00 \x00i\x00n\x00i\x00t\x00r\x00d\x00=\x00i\x00n\x00i\x00t\x00r\x00d\x00\x00\x00")) {
		t.Error("the line")
	}
	turned := files()
	turned.InitrdFirst, turned.Retried = true, true
	if b := booted(t, turned); b.Line != "initrd=initrd ro" || len(b.Registers[1]) != 7 {
		t.Errorf("%+v", b)
	}
	alone := files()
	alone.Initrd, alone.Separator = nil, 0
	if b := booted(t, alone); len(b.Registers[1]) != 4 || len(b.Registers[2]) != 1 || b.Line != "ro" {
		t.Errorf("%+v", b)
	}
}

// What QEMU writes, field by field.
func TestPatched(t *testing.T) {
	for _, c := range []struct {
		memory uint64
		above  bool
		want   uint32 // of the initrd's place
	}{
		{1 << 30, true, 0x40000000 - 0x28000 - 0x2000},
		{4 << 30, true, 0x80000000 - 0x28000 - 0x2000},
		{0xa0000000, true, 0xa0000000 - 0x28000 - 0x2000},
		{0xa0000000, false, 0x80000000 - 0x2000},
	} {
		f := files()
		f.Initrd, f.Memory, f.Handover = make([]byte, 0x1800), c.memory, Patched
		if !c.above {
			f.Kernel[0x236] = 0
		}
		b, err := patched(f)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(f.Kernel)
		want[0x210], want[0x211] = 0xb0, 0x81
		binary.LittleEndian.PutUint16(want[0x224:], 0xfe00)
		binary.LittleEndian.PutUint32(want[0x228:], 0x20000)
		binary.LittleEndian.PutUint32(want[0x218:], c.want)
		binary.LittleEndian.PutUint32(want[0x21c:], 0x1800)
		if !slices.Equal(b, want) {
			t.Errorf("%#x: the initrd is at %#x, want %#x", c.memory, binary.LittleEndian.Uint32(b[0x218:]), c.want)
		}
	}
}

// Each file, and the line, changes a register; a log that has the kernel otherwise is explained.
func TestEachCounts(t *testing.T) {
	value := func(f Files) (v [2][48]byte) {
		b := booted(t, f)
		v[0], _ = expected.Value(b.Registers[1])
		v[1], _ = expected.Value(b.Registers[2])
		return v
	}
	first := value(files())
	for name, change := range map[string]func(*Files){
		"kernel":   func(f *Files) { f.Kernel = boottest.Kernel("K") },
		"initrd":   func(f *Files) { f.Initrd = []byte("initrD") },
		"line":     func(f *Files) { f.Line = "rw" },
		"handover": func(f *Files) { f.Handover = Patched },
	} {
		f := files()
		change(&f)
		if value(f) == first {
			t.Errorf("another %s changes nothing", name)
		}
	}
	patchedToo := files()
	patchedToo.Handover = Patched
	raw, other := booted(t, files()), booted(t, patchedToo)
	if raw.Others[2].Digest != other.Registers[1][0].Choices[0].Digest || other.Others[2].Digest != raw.Registers[1][0].Choices[0].Digest {
		t.Error("the other way is not explained")
	}
}

func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*Files){
		"command line":    func(f *Files) { f.Line = "" },
		"handed over":     func(f *Files) { f.Handover = "x" },
		"size of memory":  func(f *Files) { f.Handover, f.Memory = Patched, 0 },
		"setup header":    func(f *Files) { f.Handover, f.Kernel = Patched, boottest.Program() },
		"does not fit":    func(f *Files) { f.Handover, f.Memory, f.Initrd = Patched, 64<<20, make([]byte, 64<<20) },
		"boot protocol":   func(f *Files) { f.Handover = Patched; f.Kernel[0x211] = 0 },
		`begin with "MZ"`: func(f *Files) { f.Kernel = make([]byte, 0x300) },
	} {
		f := files()
		change(&f)
		if err := Boot(&expected.Boot{}, f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func FuzzBoot(f *testing.F) {
	f.Add(boottest.Kernel("k"), []byte("i"), "ro", true)
	f.Fuzz(func(t *testing.T, kernel, initrd []byte, line string, patch bool) {
		way := Raw
		if patch {
			way = Patched
		}
		Boot(&expected.Boot{}, Files{Kernel: kernel, Initrd: initrd, Line: line, Memory: 1 << 30, Handover: way})
	})
}
