package boottest

import (
	"encoding/binary"
	"slices"
)

// Part is a section of TDX metadata.
type Part struct {
	Offset, Raw uint32
	Address     uint64
	Size        uint64
	Kind, Attr  uint32
}

// Parts are those of Firmware's image: a configuration volume, code, the hand-off blocks,
// and memory that is added and not measured.
func Parts() []Part {
	return []Part{
		{0, 0x2000, 0xffc00000, 0x2000, 1, 0},
		{0x2000, 0x2000, 0xffffe000, 0x2000, 0, 1},
		{0, 0, 0x809000, 0x2000, 2, 0},
		{0, 0, 0x80b000, 0x1000, 3, 0},
	}
}

// Variable is one that a configuration volume holds.
type Variable struct {
	GUID        [16]byte
	Name, Value string
	State       byte // 0x3f is in force
}

// Firmware is an image with these metadata, whose volume holds variables.
func Firmware(parts []Part, variables ...Variable) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x4000)
	for i := range b {
		b[i] = byte(i * 7)
	}
	volume := b[:0x2000]
	clear(volume)
	copy(volume[40:], "_FVH")
	const head = 72
	le.PutUint16(volume[48:], head)
	store := volume[head:]
	copy(store, "\x78\x2c\xf3\xaa\x7b\x94\x9a\x43\xa1\x80\x2e\x14\x4e\xc3\x77\x92")
	le.PutUint32(store[16:], uint32(len(store)))
	at := 28
	for _, v := range variables {
		name := []byte{}
		for _, c := range v.Name + "\x00" {
			name = append(name, byte(c), 0)
		}
		copy(store[at:], "\xaa\x55")
		store[at+2] = v.State
		le.PutUint32(store[at+36:], uint32(len(name)))
		le.PutUint32(store[at+40:], uint32(len(v.Value)))
		copy(store[at+44:], v.GUID[:])
		copy(store[at+60:], name)
		copy(store[at+60+len(name):], v.Value)
		at = up(at+60+len(name)+len(v.Value), 4)
	}
	for i := at; i < len(store); i++ {
		store[i] = 0xff
	}
	meta := len(b) - 0x400
	copy(b[meta:], "TDVF")
	le.PutUint32(b[meta+4:], uint32(16+32*len(parts)))
	le.PutUint32(b[meta+8:], 1)
	le.PutUint32(b[meta+12:], uint32(len(parts)))
	for i, p := range parts {
		s := b[meta+16+32*i:]
		le.PutUint32(s, p.Offset)
		le.PutUint32(s[4:], p.Raw)
		le.PutUint64(s[8:], p.Address)
		le.PutUint64(s[16:], p.Size)
		le.PutUint32(s[24:], p.Kind)
		le.PutUint32(s[28:], p.Attr)
	}
	end := len(b) - 32
	entry := slices.Concat(le.AppendUint32(nil, uint32(len(b)-meta)), []byte{22, 0},
		[]byte("\x35\x65\x7a\xe4\x4a\x98\x98\x47\x86\x5e\x46\x85\xa7\xbf\x8e\xc2"))
	footer := slices.Concat([]byte{byte(len(entry) + 18), 0}, []byte("\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d"))
	copy(b[end-len(entry)-len(footer):], slices.Concat(entry, footer))
	return b
}
