package boot

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// devicePath writes an EFI device path as text (UEFI 2.10 section 10.6). Nodes of kinds
// that are not listed in pathNode are written Path(type,subtype,hex).
func devicePath(b []byte) string {
	var s strings.Builder
	for len(b) >= 4 && s.Len() < maxDetail {
		kind, sub, n := b[0], b[1], int(binary.LittleEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			s.WriteString("/(cut off)")
			break
		}
		body := b[4:n]
		b = b[n:]
		if kind == 0x7F {
			if sub == 0xFF {
				break
			}
			s.WriteByte(',') // an instance ends, another begins
			continue
		}
		if s.Len() > 0 && !strings.HasSuffix(s.String(), ",") {
			s.WriteByte('/')
		}
		s.WriteString(pathNode(uint16(kind)<<8|uint16(sub), body))
	}
	return s.String()
}

func pathNode(node uint16, b []byte) string {
	u16 := binary.LittleEndian.Uint16
	u32 := binary.LittleEndian.Uint32
	u64 := binary.LittleEndian.Uint64
	switch {
	case node == 0x0101 && len(b) == 2:
		return fmt.Sprintf("Pci(0x%X,0x%X)", b[1], b[0])
	case node == 0x0104 && len(b) >= 16:
		return fmt.Sprintf("VenHw(%s)", guid(b))
	case node == 0x0201 && len(b) == 8:
		return acpi(u32(b), u32(b[4:]))
	case node == 0x0302 && len(b) == 4:
		return fmt.Sprintf("Scsi(0x%X,0x%X)", u16(b), u16(b[2:]))
	case node == 0x030B && len(b) == 33:
		return fmt.Sprintf("MAC(%X,0x%X)", b[:6], b[32])
	case node == 0x0312 && len(b) == 6:
		return fmt.Sprintf("Sata(0x%X,0x%X,0x%X)", u16(b), u16(b[2:]), u16(b[4:]))
	case node == 0x0317 && len(b) == 12:
		return fmt.Sprintf("NVMe(0x%X,%016X)", u32(b), u64(b[4:]))
	case node == 0x0318:
		return fmt.Sprintf("Uri(%s)", b[:min(len(b), 512)])
	case node == 0x0401 && len(b) == 38:
		return hardDrive(b)
	case node == 0x0403 && len(b) >= 16:
		return fmt.Sprintf("VenMedia(%s)", guid(b))
	case node == 0x0404:
		return utf16Text(b)
	case node == 0x0406 && len(b) == 16:
		return fmt.Sprintf("FvFile(%s)", guid(b))
	case node == 0x0407 && len(b) == 16:
		return fmt.Sprintf("Fv(%s)", guid(b))
	}
	return fmt.Sprintf("Path(%d,%d,%s)", node>>8, node&0xFF, hex.EncodeToString(b[:min(len(b), 64)]))
}

// acpi writes an ACPI node. An id 0x____41D0 is an EISA id: "PNP" and four digits.
func acpi(hid, uid uint32) string {
	switch {
	case hid == 0x0A0341D0:
		return fmt.Sprintf("PciRoot(0x%X)", uid)
	case hid&0xFFFF == 0x41D0:
		return fmt.Sprintf("Acpi(PNP%04X,0x%X)", hid>>16, uid)
	}
	return fmt.Sprintf("Acpi(0x%08X,0x%X)", hid, uid)
}

func hardDrive(b []byte) string {
	part, start, size := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:]), binary.LittleEndian.Uint64(b[12:])
	signature, form := b[20:36], b[37]
	switch form {
	case 1:
		return fmt.Sprintf("HD(%d,MBR,0x%08X,0x%X,0x%X)", part, binary.LittleEndian.Uint32(signature), start, size)
	case 2:
		return fmt.Sprintf("HD(%d,GPT,%s,0x%X,0x%X)", part, guid(signature), start, size)
	}
	return fmt.Sprintf("HD(%d,%d,0,0x%X,0x%X)", part, form, start, size)
}
