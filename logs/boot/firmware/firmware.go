// Package firmware answers: what is measured of a TDX firmware image, and of what it is given?
//
// It reads the metadata of an OVMF image (TDX Virtual Firmware Design Guide, section 11),
// computes MRTD, and the first events of RTMR0: the hand-off block of a size of memory, the
// configuration volume, the variables that the image holds. It does no I/O.
package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds.
const (
	page        = 4096
	maxSections = 64
	maxAdded    = 256 << 20 // bytes of memory that all sections together may add
)

// Kinds of sections.
const (
	kindCFV      = 1
	kindHOB      = 2
	kindTemp     = 3
	kindPayload  = 5
	kindParams   = 6
	attrExtend   = 1
	attrAugment  = 2
	metadataHead = 16
	sectionSize  = 32
)

// Image is a firmware image. It keeps the file's bytes.
type Image struct {
	file     []byte
	sections []section
}

// section is a part of the guest's memory, as TDX's metadata describe it.
type section struct {
	off, raw   uint32
	addr, size uint64
	kind, attr uint32
}

// GUIDs as they lie in memory.
var (
	footerGUID   = []byte("\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d")
	metadataGUID = []byte("\x35\x65\x7a\xe4\x4a\x98\x98\x47\x86\x5e\x46\x85\xa7\xbf\x8e\xc2")
)

// Parse reads an image with TDX metadata.
func Parse(file []byte) (*Image, error) {
	at, err := metadata(file)
	if err != nil {
		return nil, err
	}
	m := &Image{file: file}
	head := file[at:]
	if len(head) < metadataHead || string(head[:4]) != "TDVF" || binary.LittleEndian.Uint32(head[8:]) != 1 {
		return nil, errors.New("the TDX metadata must begin with \"TDVF\", of version 1")
	}
	count := binary.LittleEndian.Uint32(head[12:])
	if count > maxSections || len(head) < metadataHead+int(count)*sectionSize {
		return nil, fmt.Errorf("the TDX metadata announce %d sections: there must be at most %d, in the file", count, maxSections)
	}
	for b := head[metadataHead:]; len(m.sections) < int(count); b = b[sectionSize:] {
		m.sections = append(m.sections, section{
			binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]),
			binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]),
			binary.LittleEndian.Uint32(b[24:]), binary.LittleEndian.Uint32(b[28:]),
		})
	}
	return m, m.check()
}

// metadata walks OVMF's table of GUIDs, which ends 32 bytes before the image does. Each
// entry ends with its size and its GUID.
func metadata(file []byte) (int, error) {
	const entry = 18
	end := len(file) - 32
	if end < entry || !bytes.Equal(file[end-16:end], footerGUID) {
		return 0, errors.New("no firmware of a TD: OVMF's table of GUIDs must end 32 bytes before the file does; give the whole image, and not its variables")
	}
	left := int(binary.LittleEndian.Uint16(file[end-entry:])) - entry
	at := end - entry
	if left > at {
		return 0, errors.New("OVMF's table of GUIDs is cut off")
	}
	for left >= entry {
		size := int(binary.LittleEndian.Uint16(file[at-entry:]))
		if size < entry || size > left {
			return 0, errors.New("OVMF's table of GUIDs is damaged")
		}
		if bytes.Equal(file[at-16:at], metadataGUID) {
			if size < entry+4 {
				return 0, errors.New("OVMF's table of GUIDs has no place of the TDX metadata")
			}
			from := binary.LittleEndian.Uint32(file[at-entry-4:])
			if uint64(from) > uint64(len(file)) {
				return 0, errors.New("the TDX metadata lie outside the file")
			}
			return len(file) - int(from), nil
		}
		at, left = at-size, left-size
	}
	return 0, errors.New("the firmware has no TDX metadata: it can't start a TD")
}

func (m *Image) check() error {
	var added uint64
	for i, s := range m.sections {
		name := fmt.Sprintf("section %d of the TDX metadata", i)
		if s.size > maxAdded {
			return fmt.Errorf("%s has %d bytes of memory: all together must have at most %d", name, s.size, maxAdded)
		}
		added += s.size
		switch {
		case s.size%page != 0 || s.addr%page != 0 || s.addr+s.size < s.addr:
			return fmt.Errorf("%s must be whole pages", name)
		case uint64(s.off)+uint64(s.raw) > uint64(len(m.file)):
			return fmt.Errorf("%s lies outside the file", name)
		case s.attr&attrExtend != 0 && uint64(s.raw) != s.size:
			return fmt.Errorf("%s is measured, and has %d bytes in the file for %d of memory", name, s.raw, s.size)
		case s.kind == kindPayload || s.kind == kindParams:
			return fmt.Errorf("%s is a payload: td-shim's measurements are not known here", name)
		case s.attr&^(attrExtend|attrAugment) != 0:
			return fmt.Errorf("%s has the attributes %#x: only 1 and 2 are known", name, s.attr)
		}
	}
	if added > maxAdded {
		return fmt.Errorf("the TDX metadata have %d bytes of memory: there must be at most %d", added, maxAdded)
	}
	return nil
}

// configVolume is the configuration volume, which holds the variables.
func (m *Image) configVolume() ([]byte, error) {
	for _, s := range m.sections {
		if s.kind == kindCFV {
			return m.file[s.off : s.off+s.raw], nil
		}
	}
	return nil, errors.New("the TDX metadata name no configuration volume")
}
