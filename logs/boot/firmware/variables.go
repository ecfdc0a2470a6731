package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// maxVariables bounds the variables of a store.
const maxVariables = 1024

// Sizes in bytes (EDK2, MdeModulePkg/Include/Guid/VariableFormat.h).
const (
	volumeLengthAt = 48 // u16, in the header of a firmware volume
	storeHead      = 28
	variableHead   = 60
)

var authenticatedGUID = []byte("\x78\x2c\xf3\xaa\x7b\x94\x9a\x43\xa1\x80\x2e\x14\x4e\xc3\x77\x92")

// variable is a UEFI variable that an image holds.
type variable struct {
	guid  [16]byte // of its vendor, as it lies in memory
	name  string
	value []byte // in the image's own memory
}

// variables are those of the image's variable store, in its order: those alone that are in
// force.
func (m *Image) variables() ([]variable, error) {
	volume, err := m.configVolume()
	if err != nil {
		return nil, err
	}
	if len(volume) < volumeLengthAt+2 || string(volume[40:44]) != "_FVH" {
		return nil, errors.New("the configuration volume must be a firmware volume")
	}
	head := int(binary.LittleEndian.Uint16(volume[volumeLengthAt:]))
	if len(volume) < head+storeHead || !bytes.Equal(volume[head:head+16], authenticatedGUID) {
		return nil, errors.New("the configuration volume must hold a store of authenticated variables")
	}
	size := binary.LittleEndian.Uint32(volume[head+16:])
	if size < storeHead || uint64(size) > uint64(len(volume)-head) {
		return nil, errors.New("the store of variables lies outside the configuration volume")
	}
	return readVariables(volume[head+storeHead : head+int(size)])
}

// readVariables reads the variables behind a store's header. Each begins at a multiple of
// four of the store; the header has 28 bytes.
func readVariables(b []byte) (list []variable, err error) {
	at := 0
	for at+variableHead <= len(b) && b[at] == 0xAA && b[at+1] == 0x55 {
		head := b[at:]
		name, value := binary.LittleEndian.Uint32(head[36:]), binary.LittleEndian.Uint32(head[40:])
		if uint64(name)+uint64(value) > uint64(len(head)-variableHead) || name%2 != 0 {
			return nil, fmt.Errorf("variable at byte %d of the store is cut off", at)
		}
		if len(list) == maxVariables {
			return nil, fmt.Errorf("the store must have at most %d variables", maxVariables)
		}
		body := head[variableHead:]
		if head[2] == 0x3F { // VAR_ADDED, and nothing since
			list = append(list, variable{[16]byte(head[44:]), text(body[:name]), body[name : name+value : name+value]})
		}
		at += (variableHead + int(name) + int(value) + 3) &^ 3
	}
	return list, nil
}

// text reads UTF-16 up to its NUL.
func text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}
