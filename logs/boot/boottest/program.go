// Package boottest answers: which programs and firmware do tests boot?
//
// It writes EFI programs and firmware images in their smallest form, and puts sections
// into a real stub, as ukify does.
package boottest

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Section is a section of a program.
type Section struct {
	Name string
	Data []byte
}

const (
	align     = 0x200
	memory    = 0x1000
	coff      = 24
	optional  = 240
	entrySize = 40
	headers   = 0x800
)

func up(n, to int) int { return (n + to - 1) / to * to }

// Program is an EFI program (PE32+) with these sections. Names of more than eight bytes go
// to a table of strings behind the sections.
func Program(sections ...Section) []byte {
	const at = 0x80
	b := make([]byte, headers)
	copy(b, "MZ")
	le := binary.LittleEndian
	le.PutUint32(b[0x3c:], at)
	copy(b[at:], "PE\x00\x00\x64\x86")
	le.PutUint16(b[at+20:], optional)
	opt := b[at+coff:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], memory)
	le.PutUint32(opt[36:], align)
	le.PutUint32(opt[56:], memory) // the image's size
	le.PutUint32(opt[60:], headers)
	le.PutUint32(opt[64:], 0xdeadbeef) // the checksum, which no digest has
	le.PutUint32(opt[108:], 16)
	return Append(b, sections...)
}

// Append puts sections behind those of a program. It panics where the headers have no room:
// tests alone call it.
func Append(program []byte, sections ...Section) []byte {
	b := slices.Clone(program)
	le := binary.LittleEndian
	at := int(le.Uint32(b[0x3c:]))
	count, size := int(le.Uint16(b[at+6:])), int(le.Uint16(b[at+20:]))
	opt := at + coff
	table := opt + size
	end := int(le.Uint32(b[opt+56:]))
	strings := []byte{0, 0, 0, 0}
	for _, s := range sections {
		entry := table + count*entrySize
		if entry+entrySize > int(le.Uint32(b[opt+60:])) {
			panic("the headers have no room")
		}
		name := s.Name
		if len(name) > 8 {
			name = fmt.Sprintf("/%d", len(strings))
			strings = append(append(strings, s.Name...), 0)
		}
		clear(b[entry : entry+entrySize])
		copy(b[entry:entry+8], name)
		b = append(b, make([]byte, up(len(b), align)-len(b))...)
		le.PutUint32(b[entry+8:], uint32(len(s.Data)))
		le.PutUint32(b[entry+12:], uint32(end))
		le.PutUint32(b[entry+16:], uint32(up(len(s.Data), align)))
		le.PutUint32(b[entry+20:], uint32(len(b)))
		le.PutUint32(b[entry+36:], 0x40000040) // initialized data, to be read
		b = append(append(b, s.Data...), make([]byte, up(len(s.Data), align)-len(s.Data))...)
		end += up(len(s.Data), memory)
		count++
	}
	le.PutUint16(b[at+6:], uint16(count))
	le.PutUint32(b[opt+56:], uint32(end))
	if len(strings) > 4 {
		le.PutUint32(b[at+12:], uint32(len(b)))
		le.PutUint32(strings, uint32(len(strings)))
		b = append(b, strings...)
	}
	return b
}

// Kernel is a program with Linux's setup header, whose first bytes a test can tell apart.
func Kernel(text string) []byte {
	b := Program(Section{".text", []byte(text)})
	const header = 0x202 // it lies behind the entries of the headers
	copy(b[header:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	b[0x211] = 1                                         // loaded high
	binary.LittleEndian.PutUint32(b[0x22c:], 0x7fffffff) // highest place of an initrd
	binary.LittleEndian.PutUint16(b[0x236:], 0x3f)       // above 4 GiB, too
	return b
}
