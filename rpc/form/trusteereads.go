package form

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cima-project/cima/logs/boot"
)

// trusteeReads reports whether Trustee reads data as an event of that type (deps/eventlog,
// src/ccel). It refuses the whole evidence for one event that it can't read, or ends
// there: so what it would not read goes out as another type, because no digest covers a
// type.
func trusteeReads(kind uint32, data []byte) bool {
	switch kind {
	case boot.EvPostCode, boot.EvAction, boot.EvCompactHash, boot.EvOmitBootDevice, boot.EvEFIAction:
		return utf8.Valid(data)
	case boot.EvEventTag:
		return readsTagged(data)
	case boot.EvIPL:
		// "." in UTF-16 begins Google's; any other text may be anything.
		return len(data) >= 2 && (!bytes.HasPrefix(data, []byte{'.', 0}) || len(data) >= 4 && len(data)%2 == 0)
	case boot.EvEFIVariableDriverConfig, boot.EvEFIVariableBoot, boot.EvEFIVariableBoot2, boot.EvEFIVariableAuthority:
		return readsVariable(data)
	case boot.EvEFIBootServicesApplication:
		return readsImage(data)
	case boot.EvEFIPlatformFirmwareBlob2, boot.EvEFIHandoffTables2:
		// Its reader ends where the length is 0, and takes one byte less than it says.
		return len(data) > 0 && data[0] > 0 && len(data) >= int(data[0]) && utf8.Valid(data[1:data[0]])
	}
	return kind <= boot.EvOmitBootDevice || kind >= boot.EvEFIEventBase && kind <= boot.EvEFIVariableBoot2 ||
		kind == boot.EvEFIHCRTMEvent || kind >= boot.EvEFIVariableAuthority && kind <= boot.EvEFISPDMFirmwareConfig
}

// readsTagged: TCG_PCClientTaggedEvent, and in AAEL's own the words that it is made of.
func readsTagged(data []byte) bool {
	if len(data) < boot.TagHeaderLen || uint64(binary.LittleEndian.Uint32(data[4:])) > uint64(len(data)-boot.TagHeaderLen) {
		return false
	}
	if binary.LittleEndian.Uint32(data) != boot.TagAAEL {
		return true
	}
	text := data[boot.TagHeaderLen:][:binary.LittleEndian.Uint32(data[4:])]
	return utf8.Valid(text) && bytes.Count(text, []byte{' '}) >= 2
}

// readsVariable: UEFI_VARIABLE_DATA.
func readsVariable(data []byte) bool {
	const header = 16 + 8 + 8
	if len(data) < header {
		return false
	}
	units, size := binary.LittleEndian.Uint64(data[16:]), binary.LittleEndian.Uint64(data[24:])
	rest := uint64(len(data) - header)
	if units > rest/2 || size > rest-2*units {
		return false
	}
	for name := data[header:][:2*units]; len(name) > 0; name = name[2:] {
		unit := rune(binary.LittleEndian.Uint16(name))
		if !utf16.IsSurrogate(unit) {
			continue
		}
		if len(name) < 4 || utf16.DecodeRune(unit, rune(binary.LittleEndian.Uint16(name[2:]))) == utf8.RuneError {
			return false
		}
		name = name[2:]
	}
	return true
}

// readsImage: UEFI_IMAGE_LOAD_EVENT, whose device path is of nodes up to its last four
// bytes.
func readsImage(data []byte) bool {
	const header, node = 32, 4
	if len(data) < header {
		return false
	}
	size := binary.LittleEndian.Uint64(data[24:])
	if size == 0 {
		return true
	}
	if size < 2*node || size-node > uint64(len(data)-header) {
		return false
	}
	for path := data[header:][:size-node]; len(path) > 0; {
		if len(path) < node {
			return false
		}
		n := int(binary.LittleEndian.Uint16(path[2:]))
		if n < node || n > len(path) {
			return false
		}
		path = path[n:]
	}
	return true
}
