package firmware

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Memory that QEMU gives a guest.
const (
	minMemory = 256 << 20
	maxMemory = 64 << 40
	splitAt   = 0xb0000000 // from here on, memory is cut: q35's low memory ends
	low       = 0x80000000
	high      = 1 << 32
)

// Types of a resource, and what each range has (PI 1.8, volume 3, section 4.5).
const (
	resourceSystem     = 0
	resourceUnaccepted = 7
	resourceAttributes = 7
)

type span struct {
	accepted   bool
	start, end uint64
}

// handoffBlocks is the list of hand-off blocks that QEMU writes for a guest with so many bytes of
// memory: a first block, and one for each range of memory, which the sections of the
// image's metadata have accepted or not. Its SHA-384 is the first event of RTMR0.
func (m *Image) handoffBlocks(memory uint64) ([]byte, error) {
	if memory < minMemory || memory > maxMemory || memory%page != 0 {
		return nil, fmt.Errorf("memory of %d bytes: it must be whole pages, from %d MiB to %d TiB", memory, minMemory>>20, uint64(maxMemory)>>40)
	}
	var taken []span
	var base uint64
	for _, s := range m.sections {
		if s.kind == kindHOB || s.kind == kindTemp {
			taken = append(taken, span{true, s.addr, s.addr + s.size})
		}
		if s.kind == kindHOB {
			base = s.addr
		}
	}
	if base == 0 {
		return nil, errors.New("the TDX metadata name no place of hand-off blocks")
	}
	slices.SortFunc(taken, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	spans, err := ranges(taken, memory)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 56)
	binary.LittleEndian.PutUint16(b, 1) // EFI_HOB_TYPE_HANDOFF
	binary.LittleEndian.PutUint16(b[2:], 56)
	binary.LittleEndian.PutUint32(b[8:], 9) // version
	for _, s := range spans {
		b = append(b, s.block()...)
	}
	binary.LittleEndian.PutUint64(b[48:], base+uint64(len(b))+8)
	return b, nil
}

// ranges are those of all memory.
func ranges(taken []span, memory uint64) ([]span, error) {
	end := memory
	if memory >= splitAt {
		end = low
	}
	var all []span
	at := uint64(0)
	for _, t := range taken {
		if t.start < at || t.end > end {
			return nil, errors.New("the TDX metadata's sections lie over each other, or outside the memory")
		}
		if t.start > at {
			all = append(all, span{false, at, t.start})
		}
		all, at = append(all, t), t.end
	}
	all = append(all, span{false, at, end})
	if memory >= splitAt {
		all = append(all, span{false, high, high + memory - low})
	}
	return all, nil
}

// block is a resource descriptor.
func (s span) block() []byte {
	b := make([]byte, 48)
	binary.LittleEndian.PutUint16(b, 3) // EFI_HOB_TYPE_RESOURCE_DESCRIPTOR
	binary.LittleEndian.PutUint16(b[2:], 48)
	kind := uint32(resourceUnaccepted)
	if s.accepted {
		kind = resourceSystem
	}
	binary.LittleEndian.PutUint32(b[24:], kind)
	binary.LittleEndian.PutUint32(b[28:], resourceAttributes)
	binary.LittleEndian.PutUint64(b[32:], s.start)
	binary.LittleEndian.PutUint64(b[40:], s.end-s.start)
	return b
}
