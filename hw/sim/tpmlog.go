package sim

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"

	"github.com/cima-project/cima/logs/boot"
)

// The boot of a simulated machine with a vTPM is that of a TD, as a TPM logs it: in PCRs, with
// digests of SHA-256 and SHA-384 (TCG PC Client Platform Firmware Profile 1.06, section 10).

// Hash algorithms of the log.
const (
	algSHA256 = 0x0b
	algSHA384 = 0x0c
)

// syntheticTPMLog is the log, without padding, and what PCRs hold after it.
func syntheticTPMLog() (log []byte, after banks) {
	after = newBanks()
	log = tpmLogHeader()
	add := func(mr, kind uint32, measured, data []byte) {
		number := pcrOf(mr, kind, data)
		of256, of384 := sha256.Sum256(measured), sha512.Sum384(measured)
		log = binary.LittleEndian.AppendUint32(log, uint32(number))
		log = binary.LittleEndian.AppendUint32(log, kind)
		log = binary.LittleEndian.AppendUint32(log, 2)
		log = append(binary.LittleEndian.AppendUint16(log, algSHA256), of256[:]...)
		log = append(binary.LittleEndian.AppendUint16(log, algSHA384), of384[:]...)
		log = append(binary.LittleEndian.AppendUint32(log, uint32(len(data))), data...)
		after.sha256[number] = sha256.Sum256(append(after.sha256[number][:], of256[:]...))
		after.sha384[number] = after.sha384[number].Extend(of384)
	}
	firmware(add)
	for mr := uint32(pcrSeparator); mr < pcrSeparator+7; mr++ {
		add(mr, boot.EvSeparator, make([]byte, 4), make([]byte, 4))
	}
	loader(add)
	system(add)
	return log, after
}

// tpmLogHeader is the spec-id event.
func tpmLogHeader() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0)
	b = binary.LittleEndian.AppendUint32(b, boot.EvNoAction)
	b = append(b, make([]byte, 20)...)
	event := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	event = binary.LittleEndian.AppendUint32(event, 2)
	event = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(event, algSHA256), sha256.Size)
	event = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(event, algSHA384), sha512.Size384)
	event = append(event, 0)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(event))), event...)
}

// pcrSeparator stands for PCR 0 where the separators of PCRs 0 to 6 are measured.
const pcrSeparator = 100

// pcrOf is the PCR of an event that a TD has in a register (UEFI 2.10, section 38.4.1: RTMR0 is
// for PCRs 1 and 7, RTMR1 for 2 to 6, RTMR2 for 8 to 15; MRTD for 0).
func pcrOf(mr, kind uint32, data []byte) int {
	switch {
	case mr >= pcrSeparator:
		return int(mr - pcrSeparator)
	case mr == mrBoot:
		return 4
	case mr == mrSystem && bytes.HasPrefix(data, []byte("MokList")):
		return 14
	case mr == mrSystem && (bytes.HasPrefix(data, []byte("grub_cmd")) || bytes.HasPrefix(data, []byte("kernel_cmdline"))):
		return 8
	case mr == mrSystem:
		return 9
	case kind == boot.EvEFIHandoffTables2 || kind == boot.EvEFIPlatformFirmwareBlob2:
		return 0
	case kind == boot.EvEFIVariableDriverConfig || kind == boot.EvEFIVariableAuthority || kind == boot.EvSeparator:
		return 7
	}
	return 1
}
