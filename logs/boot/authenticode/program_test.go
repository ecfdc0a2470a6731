package authenticode

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/logstest"
)

const (
	checksum  = 0x80 + 24 + 64
	directory = 0x80 + 24 + 112 + 4*8
)

func sample() []byte {
	return boottest.Program(boottest.Section{Name: ".text", Data: []byte("code")}, boottest.Section{Name: ".cmdline", Data: []byte("ro")}, boottest.Section{Name: ".vendor_cert", Data: bytes.Repeat([]byte("c"), 600)})
}

// signed puts a table of certificates behind a program.
func signed(program []byte, certificates string) []byte {
	b := append(slices.Clone(program), certificates...)
	binary.LittleEndian.PutUint32(b[directory:], uint32(len(program)))
	binary.LittleEndian.PutUint32(b[directory+4:], uint32(len(certificates)))
	return b
}

// A file without gaps is hashed whole, but for the checksum, the entry of the
// certificates, and the certificates.
func TestDigest(t *testing.T) {
	plain := sample()
	want := sha512.Sum384(slices.Concat(plain[:checksum], plain[checksum+4:directory], plain[directory+8:]))
	other := slices.Clone(plain)
	other[checksum] ^= 1
	for name, file := range map[string][]byte{"plain": plain, "signed": signed(plain, "certificate"), "another checksum": other} {
		p, err := Parse(file)
		if err != nil || p.Digest() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := append(slices.Clone(plain), "odd"...) // EDK2 pads nothing
	p, err := Parse(odd)
	if want := sha512.Sum384(slices.Concat(odd[:checksum], odd[checksum+4:directory], odd[directory+8:])); err != nil || p.Digest() != want {
		t.Errorf("an odd length: %v", err)
	}
}

// Every byte but those changes the digest.
func TestEachByteCounts(t *testing.T) {
	file := signed(sample(), "certificate!")
	p, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	want := p.Digest()
	for i := range file {
		free := i >= checksum && i < checksum+4 || i >= directory && i < directory+8 || i >= len(file)-12
		file[i] ^= 1
		if p, err := Parse(file); err == nil && (p.Digest() == want) != free {
			t.Errorf("byte %#x: the digest stays: %v", i, !free)
		}
		file[i] ^= 1
	}
}

func TestSections(t *testing.T) {
	p, err := Parse(sample())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Names(); !slices.Equal(got, []string{".text", ".cmdline", ".vendor_cert"}) {
		t.Errorf("%q", got)
	}
	for name, want := range map[string]string{".cmdline": "ro", ".vendor_cert": strings.Repeat("c", 600), ".none": ""} {
		if got, err := p.Section(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// What firmware and this package could read differently is refused.
func TestRefused(t *testing.T) {
	const opt, table = 0x80 + 24, 0x80 + 24 + 240
	put := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	for want, change := range map[string]func([]byte){
		`begin with "MZ"`:        func(b []byte) { b[0] = 'X' },
		"PE header":              put(0x3c, 0xfffffff0),
		"at most 96":             func(b []byte) { b[0x86] = 97 },
		"optional header is cut": func(b []byte) { b[0x80+20], b[0x80+21] = 8, 0 },
		"the magic":              put(opt, 0x999),
		"the headers have":       put(opt+60, 0x90),
		"lies over another":      put(table+40+20, 0x800),
		"outside the file":       put(table+16, 1<<30),
		"must end with the file": put(directory+4, 8),
		"must end with the file of": func(b []byte) { // below zero in an int of 32 bits
			put(directory, uint32(len(b))+1<<31)(b)
			put(directory+4, 1<<31)(b)
		},
	} {
		b := sample()
		change(b)
		if _, err := Parse(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	b := sample()
	put(table+8, 5000)(b)
	p, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Section(".text"); err == nil {
		t.Error("a section that ends in zeros of nobody was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample())
	f.Add(signed(sample(), "certificate"))
	f.Fuzz(func(t *testing.T, b []byte) {
		logstest.Bounded(t, len(b), func() {
			p, err := Parse(b)
			if err != nil {
				return
			}
			p.Digest()
			for _, name := range p.Names() {
				if data, err := p.Section(name); err == nil && len(data) > len(b) {
					t.Errorf("section %q is larger than its file", name)
				}
			}
		})
	})
}
