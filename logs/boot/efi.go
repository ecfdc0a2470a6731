package boot

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// efiVariable is a measured UEFI variable (UEFI_VARIABLE_DATA, TCG PFP 1.06 section
// 10.2).
type efiVariable struct {
	GUID  string // of the vendor, in upper case
	Name  string
	Value []byte // in the event's own memory
}

// parseEFIVariable reads the data of an EV_EFI_VARIABLE_… event.
func parseEFIVariable(b []byte) (efiVariable, error) {
	const head = 32
	if len(b) < head {
		return efiVariable{}, fmt.Errorf("an EFI variable must have at least 32 bytes, not %d", len(b))
	}
	name, value := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := b[head:]
	if name > uint64(len(rest)/2) || value > uint64(len(rest))-2*name {
		return efiVariable{}, fmt.Errorf("EFI variable announces a name of %d and a value of %d bytes, but %d are left", 2*name, value, len(rest))
	}
	return efiVariable{
		GUID:  guid(b),
		Name:  utf16Text(rest[:2*name]),
		Value: rest[2*name : 2*name+value],
	}, nil
}

const guidGlobalVariable = "8BE4DF61-93CA-11D2-AA0D-00E098032B8C"

func (v efiVariable) String() string {
	switch {
	case v.GUID == guidGlobalVariable && v.Name == "SecureBoot":
		return "SecureBoot: " + onOff(v.Value)
	case v.GUID == guidGlobalVariable && v.Name == "BootOrder":
		return "BootOrder: " + bootOrder(v.Value)
	case v.GUID == guidGlobalVariable && len(v.Name) == 8 && strings.HasPrefix(v.Name, "Boot"):
		if s, err := loadOption(v.Value); err == nil {
			return v.Name + ": " + s
		}
	case v.Name == "SbatLevel":
		return "SbatLevel: " + anyText(v.Value)
	}
	if len(v.Value) == 0 {
		return v.Name + ": empty"
	}
	return fmt.Sprintf("%s: %d bytes", v.Name, len(v.Value))
}

func onOff(value []byte) string {
	if len(value) == 0 {
		return "not set"
	}
	if len(value) == 1 && value[0] <= 1 {
		return [...]string{"off", "on"}[value[0]]
	}
	return "undefined value " + hex.EncodeToString(value[:min(len(value), 16)])
}

func bootOrder(value []byte) string {
	var s strings.Builder
	for ; len(value) >= 2 && s.Len() < maxDetail; value = value[2:] {
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		fmt.Fprintf(&s, "%04X", binary.LittleEndian.Uint16(value))
	}
	return s.String()
}

// loadOption shows an EFI_LOAD_OPTION (UEFI 2.10 section 3.1.3).
func loadOption(b []byte) (string, error) {
	if len(b) < 6 {
		return "", fmt.Errorf("a load option must have at least 6 bytes, not %d", len(b))
	}
	pathLen, b := int(binary.LittleEndian.Uint16(b[4:])), b[6:]
	name := utf16Text(b)
	for len(b) >= 2 && (b[0] != 0 || b[1] != 0) {
		b = b[2:]
	}
	if len(b) < 2+pathLen {
		return "", fmt.Errorf("load option is cut off")
	}
	return fmt.Sprintf("%q %s", name, devicePath(b[2:2+pathLen])), nil
}

// imageLoad shows a UEFI_IMAGE_LOAD_EVENT (TCG PFP 1.06 section 10.2).
func imageLoad(b []byte) (string, error) {
	const head = 32
	if len(b) < head {
		return "", fmt.Errorf("an image load event must have at least 32 bytes, not %d", len(b))
	}
	size, pathLen := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[24:])
	if pathLen > uint64(len(b)-head) {
		return "", fmt.Errorf("image load event announces a path of %d bytes, but %d are left", pathLen, len(b)-head)
	}
	return fmt.Sprintf("%s (%d bytes)", devicePath(b[head:head+pathLen]), size), nil
}

// firmwareBlob shows a UEFI_PLATFORM_FIRMWARE_BLOB, or a …_BLOB2, which has a description
// (TCG PFP 1.06 section 10.2).
func firmwareBlob(b []byte, described bool) (string, error) {
	name, b, err := description(b, described)
	if err != nil {
		return "", err
	}
	if len(b) < 16 {
		return "", fmt.Errorf("a firmware blob must have at least 16 bytes, not %d", len(b))
	}
	base, size := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	return strings.TrimLeft(fmt.Sprintf("%s %d bytes at 0x%x", name, size, base), " "), nil
}

// handoffTables shows UEFI_HANDOFF_TABLE_POINTERS, or …_POINTERS2, which have a
// description (TCG PFP 1.06 section 10.2).
func handoffTables(b []byte, described bool) (string, error) {
	name, b, err := description(b, described)
	if err != nil {
		return "", err
	}
	if len(b) < 8 {
		return "", fmt.Errorf("a table list must have at least 8 bytes, not %d", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if b = b[8:]; n > uint64(len(b)/24) {
		return "", fmt.Errorf("the list announces %d tables, but %d bytes are left", n, len(b))
	}
	parts := []string{name}
	for ; n > 0 && len(parts) < 32; n, b = n-1, b[24:] {
		parts = append(parts, guid(b))
	}
	return strings.TrimLeft(strings.Join(parts, " "), " "), nil
}

func description(b []byte, described bool) (string, []byte, error) {
	if !described {
		return "", b, nil
	}
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return "", nil, fmt.Errorf("description is cut off")
	}
	n := 1 + int(b[0])
	return anyText(b[1:n]), b[n:], nil
}

// gpt shows UEFI_GPT_DATA (TCG PFP 1.06 section 10.2); its header and entries are
// those of UEFI 2.10 section 5.3.
func gpt(b []byte) (string, error) {
	const head = 92
	if len(b) < head+8 || string(b[:8]) != "EFI PART" {
		return "", fmt.Errorf("not a partition table")
	}
	size := uint64(binary.LittleEndian.Uint32(b[84:]))
	n := binary.LittleEndian.Uint64(b[head:])
	disk := guid(b[56:])
	if b = b[head+8:]; size < 128 || n > uint64(len(b))/size {
		return "", fmt.Errorf("the table announces %d partitions of %d bytes, but %d bytes are left", n, size, len(b))
	}
	parts := []string{fmt.Sprintf("disk %s, %d partitions", disk, n)}
	for ; n > 0 && len(parts) < 32; n, b = n-1, b[size:] {
		parts = append(parts, fmt.Sprintf("%s %q", guid(b[16:]), utf16Text(b[56:128])))
	}
	return strings.Join(parts, ", "), nil
}

// guid writes the EFI_GUID at the head of b, which must have at least 16 bytes. Its first
// three numbers are little-endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", binary.LittleEndian.Uint32(b),
		binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}
