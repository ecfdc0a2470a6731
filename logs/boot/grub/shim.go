package grub

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/expected"
)

// pcrShim is where shim measures its lists.
const pcrShim = 14

// GUIDs of signature lists, as they lie in memory.
var (
	x509GUID   = []byte("\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72")
	sha256GUID = []byte("\x26\x16\xc4\xc1\x4c\x50\x92\x40\xac\xa9\x41\xf9\x36\x93\x43\x28")
)

// signatureList is an EFI_SIGNATURE_LIST (UEFI 2.10, section 32.4.1) of one signature whose
// owner is shim.
func signatureList(kind, data []byte) []byte {
	const head, owner = 28, 16
	b := append([]byte(nil), kind...)
	b = binary.LittleEndian.AppendUint32(b, uint32(head+owner+len(data)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(owner+len(data)))
	return append(append(b, expected.ShimGUID[:]...), data...)
}

// shimLists adds what shim measures where nobody enrolled keys of an owner: its own
// certificate, its own revocations, and that it trusts the former. A list of one zero hash
// stands for nothing.
func shimLists(b *expected.Boot, shim *authenticode.Program, file string) error {
	section, err := shim.Section(".vendor_cert")
	if err != nil {
		return err
	}
	if len(section) < 16 {
		return errors.New("no shim: it has no section .vendor_cert")
	}
	part := func(size, at uint32) ([]byte, error) {
		if uint64(at)+uint64(size) > uint64(len(section)) {
			return nil, errors.New("the section .vendor_cert is cut off")
		}
		return section[at : at+size], nil
	}
	le := binary.LittleEndian
	certificate, err := part(le.Uint32(section), le.Uint32(section[8:]))
	if err != nil {
		return err
	}
	revoked, err := part(le.Uint32(section[4:]), le.Uint32(section[12:]))
	if err != nil {
		return err
	}
	nothing := signatureList(sha256GUID, make([]byte, 32))
	list, lists := nothing, nothing
	if len(certificate) > 0 {
		list = signatureList(x509GUID, certificate)
		if certificate[0] != 0x30 { // a list already, and no certificate
			list = certificate
		}
	}
	if len(revoked) > 0 {
		lists = revoked
	}
	b.Add(expected.Of(pcrShim, "mok", "MokList: shim's own certificate", file, list),
		expected.Of(pcrShim, "mok", "MokListX: shim's own revocations", file, lists),
		expected.Of(pcrShim, "mok", "MokListTrusted", file, []byte{1}))
	return nil
}

// SbatLevels explain the event SbatLevel of RTMR0: which one it is depends on what shim
// wrote before.
func SbatLevels(b *expected.Boot) {
	for _, level := range []string{
		"sbat,1,2021030218\n", "sbat,1,2022052400\ngrub,2\n", "sbat,1,2022111500\nshim,2\ngrub,3\n",
		"sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n", "sbat,1,2024010900\nshim,4\ngrub,3\ngrub.debian,4\n",
		"sbat,1,2024040900\nshim,4\ngrub,4\ngrub.peimage,2\n", "sbat,1,2025021800\nshim,4\ngrub,5\n",
	} {
		e := expected.Of(7, "", fmt.Sprintf("SbatLevel %.17s", level), "shim", expected.VariableData(expected.ShimGUID, "SbatLevel", []byte(level)))
		b.Others = append(b.Others, e.Choices...)
	}
	e := expected.Of(7, "", "MokListTrusted", "shim", expected.VariableData(expected.ShimGUID, "MokListTrusted", []byte{1}))
	b.Others = append(b.Others, e.Choices...)
}
