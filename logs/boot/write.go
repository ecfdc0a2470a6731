package boot

import (
	"encoding/binary"

	"github.com/cima-project/cima/logs/alg"
)

// AppendHeader appends the spec-id header of a log whose events have one SHA-384 digest
// each (TCG PFP 1.06 section 10.4.5.1).
func AppendHeader(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, EvNoAction)
	b = append(b, make([]byte, alg.SHA1.Size())...)
	b = binary.LittleEndian.AppendUint32(b, specIDFixed+4+1)
	b = append(b, specIDSignature...)
	b = binary.LittleEndian.AppendUint32(b, 0) // platform class: client
	b = append(b, 0, 2, 0, 2)                  // version 2.0 errata 0, UINTN of 8 bytes
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(alg.SHA384))
	b = binary.LittleEndian.AppendUint16(b, uint16(alg.SHA384.Size()))
	return append(b, 0) // no vendor info
}

// AppendEvent appends one event as a TCG_PCR_EVENT2 with its SHA-384 digest alone.
func AppendEvent(b []byte, e Event) []byte {
	b = binary.LittleEndian.AppendUint32(b, e.MR)
	b = binary.LittleEndian.AppendUint32(b, e.Type)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(alg.SHA384))
	b = append(b, e.Digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
	return append(b, e.Data...)
}

// Encode returns a boot log of these events, without padding.
func Encode(events []Event) []byte {
	b := AppendHeader(nil)
	for _, e := range events {
		b = AppendEvent(b, e)
	}
	return b
}
