package snp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Layout of a report (56860, ATTESTATION_REPORT), in bytes. Numbers are little-endian.
const (
	reportSize = 0x4A0
	signedEnd  = 0x2A0 // the signature is over all before: R, then S
	scalarSize = 72
)

// Report is an attestation report of version 2 to 5. All of its bytes have a fate: they are
// members here; or parseReport wants one value of them; or they are the signature; or, being
// signed, they say nothing that a verifier could use: FAMILY_ID and IMAGE_ID, which are the
// own words of who signed the ID block; REPORT_ID, a number of the boot; the CPU's stepping.
type Report struct {
	Version      uint32
	GuestSVN     uint32 // of the ID block
	Policy       uint64 // POLICY: what the guest's owner allows the host
	VMPL         uint32 // of who asked for the report, 0 to 3
	CurrentTCB   TCB
	PlatformInfo uint64 // PLATFORM_INFO: how the host is set
	AuthorKey    bool   // AUTHOR_KEY_EN: AuthorKeyDigest counts
	ReportData   [64]byte
	Measurement  [48]byte
	HostData     [32]byte // HOST_DATA: the host's, at launch
	IDKeyDigest  [48]byte // zero without an ID block
	AuthorDigest [48]byte // AUTHOR_KEY_DIGEST
	MigrationID  [32]byte // REPORT_ID_MA: all ones where no migration agent is bound
	ReportedTCB  TCB      // which the key that signs is of
	ChipID       [64]byte // zero where it is masked, and with a VLEK
	CommittedTCB TCB      // the host can't go back below it
	Current      Firmware
	Committed    Firmware
	LaunchTCB    TCB    // when the guest was started
	LaunchFixes  uint64 // LAUNCH_MIT_VECTOR, of version 5
	CurrentFixes uint64 // CURRENT_MIT_VECTOR, of version 5

	signedByVLEK  bool // SIGNING_KEY
	family, model byte // of the CPU, from version 3 on
	raw           []byte
}

// Firmware is a version of the SNP firmware.
type Firmware struct{ major, minor, build byte }

// String is as "1.55.39".
func (f Firmware) String() string { return fmt.Sprintf("%d.%d.%d", f.major, f.minor, f.build) }

// reserved are the bytes that must be zero, by their first and the one behind their last.
// Version 3 gave three of them to the CPU's id, version 5 sixteen to the mitigations.
func reserved(version uint32) [][2]int {
	ranges := [][2]int{{0x04C, 0x050}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {0x208, signedEnd}, {signedEnd + 2*scalarSize, reportSize}}
	if version < 3 {
		ranges = append(ranges, [2]int{0x188, 0x1A0})
	} else {
		ranges = append(ranges, [2]int{0x18B, 0x1A0})
	}
	if version < 5 {
		ranges = append(ranges, [2]int{0x1F8, 0x208})
	}
	return ranges
}

// Values of a report that are the only ones.
const (
	oldest, newest = 2, 5
	ecdsaP384      = 1          // ECDSA on P-384 with SHA-384
	keyInfoBits    = 0x1F       // AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY
	maxVMPL        = 3          // others are those of reports that the host asked for
	hostVMPL       = 0xFFFFFFFF // as it says there
)

// parseReport reads a report. It refuses every form but one: no bit is free that stands
// outside of the signature.
func parseReport(raw []byte) (*Report, error) {
	if len(raw) != reportSize {
		return nil, fmt.Errorf("an SNP report must have %d bytes, not %d", reportSize, len(raw))
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(raw[at:]) }
	version, keyInfo := u32(0), u32(0x048)
	switch {
	case version < oldest || version > newest:
		return nil, fmt.Errorf("an SNP report must be of version %d to %d, not %d", oldest, newest, version)
	case u32(0x034) != ecdsaP384:
		return nil, fmt.Errorf("the SNP report's SIGNATURE_ALGO must be %d (ECDSA on P-384), not %d", ecdsaP384, u32(0x034))
	case keyInfo&^keyInfoBits != 0 || keyInfo>>2 > 1:
		return nil, fmt.Errorf("the SNP report must be signed by a VCEK or a VLEK: its key information is %#x", keyInfo)
	case u32(0x030) == hostVMPL:
		return nil, fmt.Errorf("the host asked for the SNP report, not the guest: its VMPL is %#x", uint32(hostVMPL))
	case u32(0x030) > maxVMPL:
		return nil, fmt.Errorf("the SNP report's VMPL must be 0 to %d, not %d", maxVMPL, u32(0x030))
	}
	for _, r := range reserved(version) {
		if part := raw[r[0]:r[1]]; bytes.Count(part, []byte{0}) != len(part) {
			return nil, fmt.Errorf("bytes %#x to %#x of the SNP report must be zero: they are reserved in version %d", r[0], r[1]-1, version)
		}
	}
	r := &Report{
		Version: version, GuestSVN: u32(0x004), Policy: u64(0x008),
		VMPL: u32(0x030), CurrentTCB: TCB(raw[0x038:]), PlatformInfo: u64(0x040),
		AuthorKey: keyInfo&1 != 0, signedByVLEK: keyInfo>>2 == 1,
		ReportData: [64]byte(raw[0x050:]), Measurement: [48]byte(raw[0x090:]), HostData: [32]byte(raw[0x0C0:]),
		IDKeyDigest: [48]byte(raw[0x0E0:]), AuthorDigest: [48]byte(raw[0x110:]), MigrationID: [32]byte(raw[0x160:]),
		ReportedTCB: TCB(raw[0x180:]), family: raw[0x188], model: raw[0x189], ChipID: [64]byte(raw[0x1A0:]),
		CommittedTCB: TCB(raw[0x1E0:]), Current: firmware(raw[0x1E8:]), Committed: firmware(raw[0x1EC:]), LaunchTCB: TCB(raw[0x1F0:]),
		LaunchFixes: u64(0x1F8), CurrentFixes: u64(0x200), raw: bytes.Clone(raw),
	}
	if keyInfo&2 != 0 {
		return nil, fmt.Errorf("the SNP report must be signed by a chip's key: MASK_CHIP_KEY is set")
	}
	if !r.AuthorKey && r.AuthorDigest != [48]byte{} {
		return nil, fmt.Errorf("the SNP report's AUTHOR_KEY_DIGEST must be zero where AUTHOR_KEY_EN is not set")
	}
	return r, nil
}

func firmware(b []byte) Firmware { return Firmware{major: b[2], minor: b[1], build: b[0]} }
