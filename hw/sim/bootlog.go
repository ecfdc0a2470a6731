package sim

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"unicode/utf16"

	"github.com/cima-project/cima/logs/boot"
)

// Measurement register indices of a CCEL (UEFI 2.10, section 38.4.1, TDX):
// 0 is MRTD, 1–4 are RTMR0–3.
const (
	mrFirmware = 1 // RTMR0: firmware, its configuration, secure boot's variables
	mrBoot     = 2 // RTMR1: boot loader, kernel
	mrSystem   = 3 // RTMR2: command line and initrd
)

// Variable namespaces, as they lie in memory.
var (
	efiGlobal   = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	efiSecurity = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	shimLock    = [16]byte{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
)

const (
	kernel = "/boot/vmlinuz-6.18.0-cima-simulated"
	initrd = "/boot/initrd.img-6.18.0-cima-simulated"
)

// syntheticBootLog is the log of a boot that never happened: OVMF, shim, grub and a
// kernel with a root file system under dm-verity, in the order and with the
// digests that such machines show. It is the same at every boot.
func syntheticBootLog() []byte {
	var events []boot.Event
	add := func(mr, kind uint32, measured, data []byte) {
		events = append(events, boot.Event{MR: mr, Type: kind, Digest: sha512.Sum384(measured), Data: data})
	}
	firmware(add)
	loader(add)
	system(add)
	const area = 64 << 10 // what OVMF reserves for the log
	encoded := boot.Encode(events)
	return append(encoded, bytes.Repeat([]byte{0xff}, area-len(encoded))...)
}

type adder func(mr, kind uint32, measured, data []byte)

// content stands for the bytes of a file that was measured whole.
func content(name string) []byte { return []byte("CIMA simulated TD, NOT HARDWARE: " + name) }

func firmware(add adder) {
	tables := append([]byte("\x09TdxTable\x00\x01\x00\x00\x00\x00\x00\x00\x00"), content("hand-off block")[:24]...)
	add(mrFirmware, boot.EvEFIHandoffTables2, content("hand-off block list"), tables)
	blob := append([]byte(")Fv(48DB5E17-707C-472D-91CD-1613E7EF51B0)\x00"), 0, 0, 0xe0, 0xff, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0)
	add(mrFirmware, boot.EvEFIPlatformFirmwareBlob2, content("configuration volume"), blob)
	for _, v := range []struct {
		space [16]byte
		name  string
		value []byte
	}{
		{efiGlobal, "SecureBoot", []byte{1}},
		{efiGlobal, "PK", signatureList("platform key")},
		{efiGlobal, "KEK", signatureList("key exchange key")},
		{efiSecurity, "db", signatureList("allowed signer")},
		{efiSecurity, "dbx", signatureList("forbidden signer")},
	} {
		data := variable(v.space, v.name, v.value)
		add(mrFirmware, boot.EvEFIVariableDriverConfig, data, data)
	}
	add(mrFirmware, boot.EvSeparator, make([]byte, 4), make([]byte, 4))
	for _, table := range []string{"table loader", "RSDP", "tables"} {
		add(mrFirmware, boot.EvPlatformConfigFlags, content("ACPI "+table), []byte("ACPI DATA"))
	}
	order := []byte{1, 0, 0, 0}
	add(mrFirmware, boot.EvEFIVariableBoot, order, variable(efiGlobal, "BootOrder", order))
	option := append([]byte{1, 0, 0, 0, 0x22, 0}, utf16le("UEFI CIMA simulated disk\x00")...)
	add(mrFirmware, boot.EvEFIVariableBoot, option, variable(efiGlobal, "Boot0001", option))
}

func loader(add adder) {
	action(add, "Calling EFI Application from Boot Option")
	add(mrBoot, boot.EvSeparator, make([]byte, 4), make([]byte, 4))
	add(mrBoot, boot.EvEFIBootServicesApplication, content("shimx64.efi"), image(`\EFI\BOOT\shimx64.efi`))
	sbat := variable(shimLock, "SbatLevel", []byte("sbat,1,2025051000\nshim,4\ngrub,5\n"))
	add(mrFirmware, boot.EvEFIVariableAuthority, sbat, sbat)
	add(mrBoot, boot.EvEFIBootServicesApplication, content("grubx64.efi"), image(`\EFI\BOOT\grubx64.efi`))
	add(mrBoot, boot.EvEFIBootServicesApplication, content(kernel), image(kernel))
}

// system is what grub and the kernel's EFI stub measure.
func system(add adder) {
	root := sha256.Sum256(content("root file system"))
	line := fmt.Sprintf("%s root=/dev/mapper/root roothash=%x systemd.verity=yes ro console=hvc0", kernel, root)
	command := func(prefix, text string) { add(mrSystem, boot.EvIPL, []byte(text), []byte(prefix+text+"\x00")) }
	file := func(name string) { add(mrSystem, boot.EvIPL, content(name), []byte(name+"\x00")) }

	for _, name := range []string{"MokList", "MokListX"} {
		add(mrSystem, boot.EvIPL, content(name), []byte(name+"\x00"))
	}
	file("(hd0,gpt1)/EFI/BOOT/grub.cfg")
	command("grub_cmd: ", "set default=0")
	command("grub_cmd: ", "linux "+line)
	file(kernel)
	command("kernel_cmdline: ", line)
	command("grub_cmd: ", "initrd "+initrd)
	file(initrd)
	add(mrSystem, boot.EvEventTag, utf16le(line+"\x00"), tagged(0x8F3B22ED, "LOADED_IMAGE::LoadOptions\x00"))
	add(mrSystem, boot.EvEventTag, content(initrd), tagged(0x8F3B22EC, "Linux initrd\x00"))
	action(add, "Exit Boot Services Invocation")
	action(add, "Exit Boot Services Returned with Success")
}

func action(add adder, text string) { add(mrBoot, boot.EvEFIAction, []byte(text), []byte(text)) }

// variable is a UEFI_VARIABLE_DATA.
func variable(space [16]byte, name string, value []byte) []byte {
	text := utf16le(name)
	b := append([]byte(nil), space[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, text...), value...)
}

// signatureList is an EFI_SIGNATURE_LIST of one SHA-256 digest
// (EFI_CERT_SHA256_GUID).
func signatureList(name string) []byte {
	digest := sha256.Sum256(content(name))
	b := []byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	b = binary.LittleEndian.AppendUint32(b, 28+16+32)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 16+32)
	b = append(b, make([]byte, 16)...) // owner: none
	return append(b, digest[:]...)
}

// image is a UEFI_IMAGE_LOAD_EVENT with a device path of one file.
func image(path string) []byte {
	name := utf16le(path + "\x00")
	node := append([]byte{4, 4, byte(len(name) + 4), byte((len(name) + 4) >> 8)}, name...)
	node = append(node, 0x7f, 0xff, 4, 0) // end of the device path
	b := binary.LittleEndian.AppendUint64(nil, 0x7e000000)
	b = binary.LittleEndian.AppendUint64(b, 0x100000)
	b = binary.LittleEndian.AppendUint64(b, 0)
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(node))), node...)
}

// tagged is a TCG_PCClientTaggedEvent.
func tagged(id uint32, text string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, id)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

func utf16le(text string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}
