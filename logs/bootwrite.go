package logs

import "encoding/binary"

// AppendBootHeader appends the spec-id header of a log whose events carry one
// SHA-384 digest each.
func AppendBootHeader(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, EvNoAction)
	b = append(b, make([]byte, AlgSHA1.Size())...)
	b = binary.LittleEndian.AppendUint32(b, specIDFixed+4+1)
	b = append(b, specIDSignature...)
	b = binary.LittleEndian.AppendUint32(b, 0) // platform class: client
	b = append(b, 0, 2, 0, 2)                  // version 2.0 errata 0, UINTN of 8 bytes
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(AlgSHA384))
	b = binary.LittleEndian.AppendUint16(b, uint16(AlgSHA384.Size()))
	return append(b, 0) // no vendor info
}

// AppendBootEvent appends one event with its SHA-384 digest.
func AppendBootEvent(b []byte, e BootEvent) []byte {
	b = binary.LittleEndian.AppendUint32(b, e.MR)
	b = binary.LittleEndian.AppendUint32(b, e.Type)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(AlgSHA384))
	b = append(b, e.Digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
	return append(b, e.Data...)
}

// EncodeBootLog writes a boot log of these events, without padding.
func EncodeBootLog(events []BootEvent) []byte {
	b := AppendBootHeader(nil)
	for _, e := range events {
		b = AppendBootEvent(b, e)
	}
	return b
}
