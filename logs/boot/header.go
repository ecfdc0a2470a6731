package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/logs/alg"
)

// Lengths in bytes.
const (
	legacyHeader = 32 // TCG_PCClientPCREvent without its data
	specIDFixed  = 28 // TCG_EfiSpecIdEvent up to its list of algorithms
)

var specIDSignature = []byte("Spec ID Event03\x00")

type header struct {
	size int // in bytes, up to the first event
	algs [alg.Max]struct {
		id   alg.ID
		size int
	}
	algCount int
}

// acpiTable begins the ACPI table that is easily mistaken for the log: both are files
// named CCEL.
var acpiTable = []byte("CCEL")

// parse reads the first record: a TCG_PCClientPCREvent with a digest of 20 bytes (SHA-1),
// whose data are a TCG_EfiSpecIdEvent (TCG PFP 1.06 section 10.4.5.1). Little-endian.
func (h *header) parse(b []byte) error {
	if len(b) < legacyHeader {
		return fmt.Errorf("%d bytes are too few for a spec-id header", len(b))
	}
	if bytes.HasPrefix(b, acpiTable) {
		return fmt.Errorf("this is the ACPI table that points to the log; hint: the log is tables/data/CCEL, not tables/CCEL")
	}
	if t := binary.LittleEndian.Uint32(b[4:]); t != EvNoAction {
		return fmt.Errorf("the first event is %s: it must be the spec-id header, EV_NO_ACTION", TypeName(t))
	}
	size := binary.LittleEndian.Uint32(b[28:])
	body := b[legacyHeader:]
	if uint64(size) > uint64(len(body)) {
		return fmt.Errorf("spec-id header announces %d bytes, but %d are left", size, len(body))
	}
	h.size = legacyHeader + int(size)
	body = body[:size]
	if len(body) < specIDFixed || !bytes.HasPrefix(body, specIDSignature) {
		return fmt.Errorf("the header must hold \"Spec ID Event03\": this is not a crypto-agile log")
	}
	return h.parseAlgorithms(body[24:])
}

func (h *header) parseAlgorithms(b []byte) error {
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > alg.Max || len(b) < int(n)*4+1 {
		return fmt.Errorf("spec-id header lists %d algorithms in %d bytes: it must list at most %d", n, len(b), alg.Max)
	}
	for i := range int(n) {
		id, size := alg.ID(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if known := id.Size(); known != 0 && known != size {
			return fmt.Errorf("spec-id header gives %s %d bytes: it must have %d", id, size, known)
		}
		if h.digestSize(id) >= 0 && id.Size() == 0 {
			return fmt.Errorf("spec-id header lists algorithm %s twice", id)
		}
		h.algs[i].id, h.algs[i].size = id, size
		h.algCount++
	}
	vendor := int(b[0])
	if len(b)-1 < vendor {
		return fmt.Errorf("spec-id header announces %d bytes of vendor info, but %d are left", vendor, len(b)-1)
	}
	return nil
}

// digestSize is a digest's length in bytes, -1 for an algorithm that is neither known nor
// declared.
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
