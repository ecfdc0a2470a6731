package expected

import (
	"encoding/binary"
	"unicode/utf16"
)

// rule is the origin of what no file changes.
const rule = "no file: the same in each build"

// Separator ends what firmware measures before a boot loader. A TD has it once in a
// register; firmware with a TPM writes one for each of its registers.
func Separator(pcr int) Event { return Of(pcr, "separator", "separator", rule, make([]byte, 4)) }

// calling, returning and the end of the boot services (TCG PFP 1.06, section 10.4.4).
func calling() Event   { return action(4, "Calling EFI Application from Boot Option") }
func returning() Event { return action(4, "Returning from EFI Application from Boot Option") }

// Exit adds the last events of RTMR1. Firmware may refuse the first call, because the map
// of memory changed meanwhile; then Linux calls once more.
func (b *Boot) Exit(retried bool) {
	const call = "Exit Boot Services Invocation"
	refused := action(5, "Exit Boot Services Returned with Failure")
	if retried {
		b.Add(action(5, call), refused)
	} else {
		b.Others = append(b.Others, refused.Choices...)
	}
	b.Add(action(5, call), action(5, "Exit Boot Services Returned with Success"))
}

func action(pcr int, text string) Event { return Of(pcr, "action", text, rule, []byte(text)) }

// Start are the events of RTMR1 before a boot option runs: after failed ones, and with the
// separator in RTMR1 or, by older firmware, in RTMR0.
func Start(failed int, separatorIn int) []Event {
	events := []Event{calling()}
	if separatorIn == 1 {
		events = append(events, Separator(4))
	}
	for range failed {
		events = append(events, returning(), calling())
	}
	return events
}

// Wide is a text in UTF-16, little-endian, with or without a NUL.
func Wide(text string, nul bool) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	if nul {
		b = append(b, 0, 0)
	}
	return b
}

// LoadOptions is the command line as Linux's EFI stub measures it: as it was handed over,
// with a NUL by OVMF and systemd-stub, without one by grub.
func LoadOptions(line, from string, nul bool) Event {
	return Of(9, "line", "command line", from, Wide(line, nul))
}

// Initrd is the initrd as Linux's EFI stub measures it.
func Initrd(from string, data []byte) Event { return Of(9, "initrd", "initrd", from, data) }

// GUIDs of vendors, as they lie in memory.
var (
	GlobalGUID   = [16]byte([]byte("\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"))
	SecurityGUID = [16]byte([]byte("\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f"))
	ShimGUID     = [16]byte([]byte("\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23"))
)

// VariableData is UEFI_VARIABLE_DATA (TCG PFP 1.06, section 10.2): what most events of
// variables hash.
func VariableData(vendor [16]byte, name string, value []byte) []byte {
	wide := Wide(name, false)
	b := append([]byte(nil), vendor[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(wide)/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, wide...), value...)
}
