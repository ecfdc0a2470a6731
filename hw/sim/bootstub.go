package sim

import (
	"encoding/binary"
	"errors"

	"github.com/cima-project/cima/hw"
)

// To be replaced by logs.BootEvent, logs.EncodeBootLog and its replay as soon
// as they are there.
type bootEvent struct {
	MR     uint32
	Type   uint32
	Digest [48]byte
	Data   []byte
}

func encodeBootLog(events []bootEvent) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1)
	b = le.AppendUint32(b, 3)
	b = append(b, make([]byte, 20)...)
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 0x30, 0, 0)
	b = append(le.AppendUint32(b, uint32(len(spec))), spec...)
	for _, e := range events {
		b = le.AppendUint32(le.AppendUint32(b, e.MR), e.Type)
		b = le.AppendUint16(le.AppendUint32(b, 1), 0x0c)
		b = append(b, e.Digest[:]...)
		b = append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}

func replay(log []byte) (rtmr [4][48]byte, err error) {
	le := binary.LittleEndian
	if len(log) < 65 || le.Uint32(log[28:]) != 33 {
		return rtmr, errors.New("no spec-id header")
	}
	for b := log[65:]; len(b) >= 4 && le.Uint32(b) != 0xffffffff && (le.Uint32(b) != 0 || le.Uint32(b[4:]) != 0); {
		if len(b) < 66 || le.Uint32(b[8:]) != 1 || le.Uint16(b[12:]) != 0x0c {
			return rtmr, errors.New("not one SHA-384 digest")
		}
		n := uint64(le.Uint32(b[62:]))
		if n > uint64(len(b)-66) {
			return rtmr, errors.New("cut short")
		}
		if mr := le.Uint32(b); mr > 4 {
			return rtmr, errors.New("no such register")
		} else if mr > 0 {
			rtmr[mr-1] = hw.Digest(rtmr[mr-1]).Extend(hw.Digest(b[14:62]))
		}
		b = b[66+n:]
	}
	return rtmr, nil
}
