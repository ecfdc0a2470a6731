// Package authenticode answers: what does firmware measure of an EFI program?
//
// It reads the headers of a PE/COFF file (kernel, shim, grub, UKI, add-on), computes the
// Authenticode digest that EV_EFI_BOOT_SERVICES_APPLICATION has, and finds sections. It
// does no I/O. Each byte of a file is hashed once.
package authenticode

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a file's headers.
const (
	maxSections = 96 // what loaders of PE/COFF take
	maxName     = 256
)

// Offsets and sizes of PE/COFF, in bytes.
const (
	peOffset     = 0x3c
	coffHeader   = 24 // "PE\0\0" and the COFF header
	sectionEntry = 40
	checksumAt   = 64 // in the optional header
	security     = 4  // index of the directory of certificates
)

// Program is an EFI program. It keeps the file's bytes.
type Program struct {
	file           []byte
	checksum       int // where the checksum stands
	directory      int // where the entry of the certificates stands; 0 for none
	headers        int // bytes of all headers
	certificates   int // bytes of the certificates, at the file's end
	sections       []section
	symbols, count uint32 // the table of symbols, behind which long names are
}

type section struct {
	name              string
	virtual, raw, off uint32
}

// Parse reads the headers of an EFI program.
func Parse(file []byte) (*Program, error) {
	p := &Program{file: file}
	if len(file) < 64 || file[0] != 'M' || file[1] != 'Z' {
		return nil, errors.New(`not an EFI program: it must begin with "MZ"; a kernel must have CONFIG_EFI_STUB`)
	}
	at := uint64(binary.LittleEndian.Uint32(file[peOffset:]))
	head, err := p.part(at, coffHeader)
	if err != nil || string(head[:4]) != "PE\x00\x00" {
		return nil, errors.New("not an EFI program: the PE header is missing")
	}
	sections, size := int(binary.LittleEndian.Uint16(head[6:])), uint64(binary.LittleEndian.Uint16(head[20:]))
	p.symbols, p.count = binary.LittleEndian.Uint32(head[12:]), binary.LittleEndian.Uint32(head[16:])
	if sections > maxSections {
		return nil, fmt.Errorf("the EFI program has %d sections: it must have at most %d", sections, maxSections)
	}
	if err := p.optional(at+coffHeader, size); err != nil {
		return nil, err
	}
	table, err := p.part(at+coffHeader+size, uint64(sections*sectionEntry))
	if err != nil {
		return nil, fmt.Errorf("the table of sections: %w", err)
	}
	for ; len(table) > 0; table = table[sectionEntry:] {
		p.sections = append(p.sections, section{
			p.name(table[:8]), binary.LittleEndian.Uint32(table[8:]), binary.LittleEndian.Uint32(table[16:]), binary.LittleEndian.Uint32(table[20:]),
		})
	}
	return p, p.check()
}

// part is a part of the file, or an error where the file is shorter.
func (p *Program) part(at, size uint64) ([]byte, error) {
	if at > uint64(len(p.file)) || size > uint64(len(p.file))-at {
		return nil, fmt.Errorf("%d bytes at %d lie outside the file of %d", size, at, len(p.file))
	}
	return p.file[at : at+size : at+size], nil
}

// optional reads the optional header, of PE32 or PE32+.
func (p *Program) optional(at, size uint64) error {
	head, err := p.part(at, size)
	if err != nil || size < 96 {
		return errors.New("not an EFI program: the optional header is cut off")
	}
	directories := uint64(96)
	switch magic := binary.LittleEndian.Uint16(head); magic {
	case 0x10b:
	case 0x20b:
		directories = 112
	default:
		return fmt.Errorf("the optional header has the magic %#x: it must be PE32 or PE32+", magic)
	}
	p.checksum = int(at) + checksumAt
	p.headers = int(binary.LittleEndian.Uint32(head[60:]))
	entry := directories + security*8
	if size < directories || binary.LittleEndian.Uint32(head[directories-4:]) <= security {
		return nil
	}
	if size < entry+8 {
		return errors.New("the directories of the EFI program are cut off")
	}
	p.directory = int(at + entry)
	start, long := uint64(binary.LittleEndian.Uint32(head[entry:])), uint64(binary.LittleEndian.Uint32(head[entry+4:]))
	if long > 0 && start+long != uint64(len(p.file)) {
		return fmt.Errorf("the certificates end at byte %d: they must end with the file of %d", start+long, len(p.file))
	}
	p.certificates = int(long)
	return nil
}

// name is a section's; "/N" stands for text in the table of strings.
func (p *Program) name(b []byte) string {
	short, _, _ := bytes.Cut(b, []byte{0})
	n, err := strconv.ParseUint(strings.TrimPrefix(string(short), "/"), 10, 32)
	if !bytes.HasPrefix(short, []byte("/")) || err != nil {
		return string(short)
	}
	at := uint64(p.symbols) + 18*uint64(p.count) + n
	if at >= uint64(len(p.file)) {
		return string(short)
	}
	long, _, _ := bytes.Cut(p.file[at:min(at+maxName, uint64(len(p.file)))], []byte{0})
	return string(long)
}

// check refuses what firmware would read in another way: sections that lie outside the
// file or over each other, headers that end within the entries that a digest leaves out.
func (p *Program) check() error {
	least := p.checksum + 4
	if p.directory > 0 {
		least = p.directory + 8
	}
	if p.headers < least || p.headers > len(p.file)-p.certificates {
		return fmt.Errorf("the headers have %d bytes: they must have at least %d, and lie in the file", p.headers, least)
	}
	end := uint64(p.headers)
	for _, s := range p.inFile() {
		if _, err := p.part(uint64(s.off), uint64(s.raw)); err != nil {
			return fmt.Errorf("section %q: %w", s.name, err)
		}
		if uint64(s.off) < end {
			return fmt.Errorf("section %q lies over another, or over the headers", s.name)
		}
		end = uint64(s.off) + uint64(s.raw)
	}
	if end > uint64(len(p.file)-p.certificates) {
		return errors.New("the certificates lie over a section")
	}
	return nil
}

// inFile are the sections that the file has bytes of, as they lie there.
func (p *Program) inFile() []section {
	list := slices.DeleteFunc(slices.Clone(p.sections), func(s section) bool { return s.raw == 0 })
	slices.SortStableFunc(list, func(a, b section) int { return cmp.Compare(a.off, b.off) })
	return list
}

// Digest is the Authenticode digest by SHA-384, as EDK2 computes it: headers without the
// checksum and the certificates' entry, sections as they lie in the file, and what lies
// behind them. EDK2 counts what it hashed, and takes the rest from there: a gap between
// sections moves it. It pads nothing.
func (p *Program) Digest() [48]byte {
	h := sha512.New384()
	h.Write(p.file[:p.checksum])
	if p.directory == 0 {
		h.Write(p.file[p.checksum+4 : p.headers])
	} else {
		h.Write(p.file[p.checksum+4 : p.directory])
		h.Write(p.file[p.directory+8 : p.headers])
	}
	hashed := p.headers
	for _, s := range p.inFile() {
		h.Write(p.file[s.off : s.off+s.raw])
		hashed += int(s.raw)
	}
	if end := len(p.file) - p.certificates; end > hashed {
		h.Write(p.file[hashed:end])
	}
	return [48]byte(h.Sum(nil))
}

// Has reports whether there is a section of a name.
func (p *Program) Has(name string) bool { return p.find(name) >= 0 }

func (p *Program) find(name string) int {
	return slices.IndexFunc(p.sections, func(s section) bool { return s.name == name })
}

// Section is what the first section of a name holds in memory, in the file's own memory:
// nothing where there is none. A section that is larger in memory than in the file is
// refused, because it would end in zeros that nobody wrote.
func (p *Program) Section(name string) ([]byte, error) {
	i := p.find(name)
	if i < 0 {
		return nil, nil
	}
	s := p.sections[i]
	if s.virtual > s.raw {
		return nil, fmt.Errorf("section %q has %d bytes in memory and %d in the file: it must not have more in memory", name, s.virtual, s.raw)
	}
	return p.part(uint64(s.off), uint64(s.virtual))
}

// Names are the names of all sections, in the order of the table.
func (p *Program) Names() []string {
	var names []string
	for _, s := range p.sections {
		names = append(names, s.name)
	}
	return names
}
