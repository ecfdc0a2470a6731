// Package direct answers: what does a boot by QEMU's -kernel measure?
//
// OVMF loads kernel and initrd from QEMU, and starts the kernel with its command line. The
// kernel that older QEMU or OVMF hand over has QEMU's words in its setup header, and so
// another digest. It does no I/O.
package direct

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/expected"
)

// How the kernel is handed over.
const (
	Raw     = "raw"     // as the file is: QEMU from 10.0 with OVMF from 2025.02
	Patched = "patched" // with QEMU's words in its setup header: an older one of the two
)

// handovers are all of them.
var handovers = []string{Raw, Patched}

// Files are what QEMU is given.
type Files struct {
	Kernel, Initrd         []byte // Initrd is nil where there is none
	KernelName, InitrdName string
	Line                   string
	Memory                 uint64 // bytes; counts where Handover is Patched
	Handover               string
	Separator              int  // the register that has the separator before the boot
	InitrdFirst            bool // OVMF puts its word before the line: 2026.08, and not 2025.02
	Retried                bool // firmware refuses the first call of ExitBootServices
}

// Boot computes RTMR1 and RTMR2.
func Boot(b *expected.Boot, f Files) error {
	if f.Line == "" {
		return errors.New("a direct boot must have a command line: without one it depends on the firmware what is measured")
	}
	kernel := f.Kernel
	from := f.KernelName
	var err error
	switch f.Handover {
	case Raw:
	case Patched:
		if kernel, err = patched(f); err != nil {
			return err
		}
		from = fmt.Sprintf("%s, with QEMU's setup header for %d MiB of memory", f.KernelName, f.Memory>>20)
	default:
		return fmt.Errorf("a kernel is handed over %q, not %q", handovers, f.Handover)
	}
	p, err := authenticode.Parse(kernel)
	if err != nil {
		return fmt.Errorf("%s: %w", f.KernelName, err)
	}
	b.Add(expected.Known(4, "kernel", "kernel", from, p.Digest()))
	b.Add(expected.Start(0, f.Separator)...)
	b.Exit(f.Retried)
	const given = "the line that was given"
	b.Line = f.Line
	if f.Initrd != nil { // OVMF's word
		last, first := f.Line+" initrd=initrd", "initrd=initrd "+f.Line
		if f.InitrdFirst {
			last, first = first, last
		}
		b.Line = last
		other := expected.LoadOptions(first, given, true)
		other.Choices[0].What = "command line with initrd=initrd at its other end"
		b.Others = append(b.Others, other.Choices...)
	}
	b.Add(expected.LoadOptions(b.Line, given, true))
	if f.Initrd != nil {
		b.Add(expected.Initrd(f.InitrdName, f.Initrd))
	}
	return others(b, f)
}

// others are what the log has where the kernel is handed over in the other way.
func others(b *expected.Boot, f Files) error {
	kernel, way := f.Kernel, Raw
	if f.Handover == Raw {
		if f.Memory == 0 {
			return nil
		}
		var err error
		if kernel, err = patched(f); err != nil {
			return nil // such a kernel is not patched at all
		}
		way = Patched
	}
	p, err := authenticode.Parse(kernel)
	if err != nil {
		return err
	}
	b.Others = append(b.Others, expected.Choice{What: "the kernel, handed over " + way, From: f.KernelName, Digest: p.Digest()})
	return nil
}

// Places in a kernel's setup header (Linux, Documentation/arch/x86/boot.rst), and what
// QEMU writes there.
const (
	headerEnd      = 0x268
	versionAt      = 0x206
	loaderAt       = 0x210 // type_of_loader, loadflags
	initrdAt       = 0x218 // ramdisk_image, ramdisk_size
	heapAt         = 0x224
	lineAt         = 0x228
	initrdMaxAt    = 0x22c
	xloadAt        = 0x236
	loadedHigh     = 0x01
	canUseHeap     = 0x80
	above4G        = 0x02
	qemu           = 0xb0
	splitAt        = 0xb0000000 // from here on, q35's low memory has 2 GiB
	acpiData       = 0x28000    // QEMU keeps so much below the top for ACPI
	defaultHighest = 0x37ffffff
)

// patched is the kernel with the setup header that QEMU fills in (x86_load_linux).
func patched(f Files) ([]byte, error) {
	if len(f.Kernel) < headerEnd || string(f.Kernel[0x202:0x206]) != "HdrS" {
		return nil, fmt.Errorf("%s has no setup header of Linux", f.KernelName)
	}
	if f.Memory < 64<<20 {
		return nil, errors.New("a kernel that QEMU patches must come with the size of memory: the initrd's place depends on it")
	}
	le := binary.LittleEndian
	b := slices.Clone(f.Kernel)
	version := le.Uint16(b[versionAt:])
	if version < 0x202 || b[loaderAt+1]&loadedHigh == 0 {
		return nil, fmt.Errorf("%s has the boot protocol %#x: it must be at least 0x202, loaded high", f.KernelName, version)
	}
	const setup, line = 0x10000, 0x20000
	b[loaderAt] = qemu
	b[loaderAt+1] |= canUseHeap
	le.PutUint16(b[heapAt:], line-setup-0x200)
	le.PutUint32(b[lineAt:], line)
	if f.Initrd != nil {
		place, err := initrdPlace(b, uint64(len(f.Initrd)), f.Memory)
		if err != nil {
			return nil, err
		}
		le.PutUint32(b[initrdAt:], place)
		le.PutUint32(b[initrdAt+4:], uint32(len(f.Initrd)))
	}
	return b, nil
}

// initrdPlace is where QEMU puts the initrd: as high as kernel and memory allow.
func initrdPlace(kernel []byte, size, memory uint64) (uint32, error) {
	highest := uint64(defaultHighest)
	switch version := binary.LittleEndian.Uint16(kernel[versionAt:]); {
	case version >= 0x20c && binary.LittleEndian.Uint16(kernel[xloadAt:])&above4G != 0:
		highest = 1<<32 - 1
	case version >= 0x203:
		highest = uint64(binary.LittleEndian.Uint32(kernel[initrdMaxAt:]))
	}
	below := memory
	if memory >= splitAt {
		below = 0x80000000
	}
	highest = min(highest, below-acpiData-1)
	if size > highest {
		return 0, fmt.Errorf("an initrd of %d bytes does not fit below %d bytes of memory", size, below)
	}
	return uint32((highest - size) &^ 4095), nil
}
