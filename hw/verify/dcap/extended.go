package dcap

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/hw"
)

// Extended are the members that a quote's body of type 4 (TD report 1.5 Ex) has besides
// those of type 3.
type Extended struct {
	VMID             byte // 0: the TD itself, or its L1; else a VM in it
	TDID             [32]byte
	DeviceInfo       hw.Digest
	InitialServiceTD hw.Digest // when the TD was made
	CurrentServiceTD hw.Digest // now
}

// Layout of quotes, and of a body of type 4, in bytes.
const (
	bodySize4    = 584 // of a quote of version 4
	descriptorAt = 48  // type, 2 bytes; size, 4
	bodyAt       = descriptorAt + 6
	bodyType15   = 3
	bodySize15   = 648
	bodyTypeEx   = 4
	bodySizeEx   = 885
	vmIDAt       = 648
	tdIDAt       = 649
	deviceInfoAt = 681
	initialTDAt  = 729
	currentTDAt  = 829
)

// isExtended reports whether a quote is of version 5 with a body of type 4.
func isExtended(raw []byte) bool {
	return len(raw) >= bodyAt && binary.LittleEndian.Uint16(raw) == 5 && binary.LittleEndian.Uint16(raw[descriptorAt:]) == bodyTypeEx
}

// shorten makes a body of type 3 of one of type 4: the library reads no other. Its
// signature doesn't hold, so Quote.signed keeps what was signed.
func shorten(raw []byte) ([]byte, *Extended, error) {
	size := binary.LittleEndian.Uint32(raw[descriptorAt+2:])
	if size != bodySizeEx || len(raw) < bodyAt+bodySizeEx {
		return nil, nil, fmt.Errorf("a body of type 4 must have %d bytes, not %d", bodySizeEx, size)
	}
	body := raw[bodyAt:][:bodySizeEx]
	x := &Extended{
		VMID: body[vmIDAt], TDID: [32]byte(body[tdIDAt:]), DeviceInfo: hw.Digest(body[deviceInfoAt:]),
		InitialServiceTD: hw.Digest(body[initialTDAt:]), CurrentServiceTD: hw.Digest(body[currentTDAt:]),
	}
	short := binary.LittleEndian.AppendUint16(bytes.Clone(raw[:descriptorAt]), bodyType15)
	short = binary.LittleEndian.AppendUint32(short, bodySize15)
	short = append(short, body[:bodySize15]...)
	return append(short, raw[bodyAt+bodySizeEx:]...), x, nil
}
