package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/logs/alg"
)

const (
	legacyHeader = 32
	specIDFixed  = 28
)

var specIDSignature = []byte("Spec ID Event03\x00")

type header struct {
	size     int // bytes, to the first event
	mr       uint32
	platform uint32
	version  [3]byte // minor, major, errata, as they stand there
	vendor   []byte
	algs     [alg.Max]struct {
		id   alg.ID
		size int
	}
	algCount int
}

// acpiTable is how the table begins that is easily taken for the log: both are
// files named CCEL.
var acpiTable = []byte("CCEL")

// parse reads the first record, a TCG_PCClientPCREvent with SHA-1's 20 bytes
// of digest that holds a TCG_EfiSpecIdEvent. All numbers little-endian.
func (h *header) parse(b []byte) error {
	if len(b) < legacyHeader {
		return fmt.Errorf("%d bytes are too few for a spec-id header", len(b))
	}
	if bytes.HasPrefix(b, acpiTable) {
		return fmt.Errorf("this is the ACPI table that says where the log is: the log is tables/data/CCEL, not tables/CCEL")
	}
	h.mr = binary.LittleEndian.Uint32(b)
	if t := binary.LittleEndian.Uint32(b[4:]); t != EvNoAction {
		return fmt.Errorf("first event is %s, not the spec-id header's EV_NO_ACTION", TypeName(t))
	}
	size := binary.LittleEndian.Uint32(b[28:])
	body := b[legacyHeader:]
	if uint64(size) > uint64(len(body)) {
		return fmt.Errorf("spec-id header announces %d bytes, %d are there", size, len(body))
	}
	h.size = legacyHeader + int(size)
	body = body[:size]
	if len(body) < specIDFixed || !bytes.HasPrefix(body, specIDSignature) {
		return fmt.Errorf("no \"Spec ID Event03\": not a crypto-agile log")
	}
	h.platform = binary.LittleEndian.Uint32(body[16:])
	h.version = [3]byte(body[20:23])
	return h.parseAlgorithms(body[24:])
}

func (h *header) parseAlgorithms(b []byte) error {
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > alg.Max || len(b) < int(n)*4+1 {
		return fmt.Errorf("spec-id header lists %d algorithms in %d bytes; at most %d are read", n, len(b), alg.Max)
	}
	for i := range int(n) {
		id, size := alg.ID(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if known := id.Size(); known != 0 && known != size {
			return fmt.Errorf("spec-id header gives %s %d bytes instead of %d", id, size, known)
		}
		if h.digestSize(id) >= 0 && id.Size() == 0 {
			return fmt.Errorf("spec-id header lists algorithm %s twice", id)
		}
		h.algs[i].id, h.algs[i].size = id, size
		h.algCount++
	}
	vendor := int(b[0])
	if len(b)-1 < vendor {
		return fmt.Errorf("spec-id header announces %d bytes of vendor info, %d are there", vendor, len(b)-1)
	}
	h.vendor = b[1 : 1+vendor]
	return nil
}

// digestSize is -1 for an algorithm that is neither known nor declared.
func (h *header) digestSize(id alg.ID) int {
	if n := id.Size(); n != 0 {
		return n
	}
	for i := range h.algCount {
		if h.algs[i].id == id {
			return h.algs[i].size
		}
	}
	return -1
}
