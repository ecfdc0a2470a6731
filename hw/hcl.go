//go:build linux

package hw

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
)

// Layout of an HCL report: what the paravisor of an Azure VM leaves in the NV index of its
// vTPM (HwVmReport.h of Azure's cvm-guest-attestation), in bytes; integers are little-endian.
// It is the answer for the TPM's key at boot: a hardware report over a hash, and what was hashed.
const (
	hclReport  = 0x20            // SNP report, or TDREPORT and zeros
	hclRequest = 0x20 + 0x4A0    // size, version, type of report, type of hash, size of what was hashed
	hclRuntime = hclRequest + 20 // what was hashed: JSON
	maxHCL     = 16 << 10

	hclSNP = 2
	hclTDX = 4
)

// hcl is an HCL report, taken apart.
type hcl struct {
	tee     string // TEEAzureTDX, TEEAzureSNP
	report  []byte // TDREPORT of 1024 bytes, or SNP report
	runtime []byte // the JSON, as it was hashed
	modulus []byte // of the key that it names, RSA-2048
}

// readHCL reads an HCL report. What stands around report and JSON is bound by nothing, and not read.
// Its errors are ErrMalformed.
func readHCL(b []byte) (h hcl, err error) {
	if len(b) < hclRuntime || string(b[:4]) != "HCLA" {
		return h, fmt.Errorf("%w: %d bytes that are no HCL report", ErrMalformed, len(b))
	}
	field := func(n int) uint32 { return binary.LittleEndian.Uint32(b[hclRequest+4*n:]) }
	size, kind, hash, length := field(0), field(2), field(3), field(4)
	if hash != 1 || uint64(length) > uint64(len(b)-hclRuntime) || uint64(size) != uint64(length)+20 {
		return h, fmt.Errorf("%w: an HCL report with %d bytes of runtime data by hash %d", ErrMalformed, length, hash)
	}
	h.runtime = bytes.Clone(b[hclRuntime:][:length])
	var data ReportData
	switch kind {
	case hclTDX:
		h.tee, h.report = TEEAzureTDX, bytes.Clone(b[hclReport:][:reportSize])
		data = ReportData(h.report[reportData:])
	case hclSNP:
		h.tee, h.report = TEEAzureSNP, bytes.Clone(b[hclReport:][:snpReport])
		data = ReportData(h.report[snpData:])
	default:
		return h, fmt.Errorf("%w: an HCL report of type %d", ErrMalformed, kind)
	}
	if data != runtimeData(h.runtime) {
		return h, fmt.Errorf("%w: the report is not over the runtime data", ErrMalformed)
	}
	if h.modulus, err = hclKey(h.runtime); err != nil {
		return h, fmt.Errorf("%w: runtime data: %w", ErrMalformed, err)
	}
	return h, nil
}

// runtimeData is the report data over a paravisor's JSON.
func runtimeData(runtime []byte) (data ReportData) {
	sum := sha256.Sum256(runtime)
	copy(data[:], sum[:])
	return data
}

// hclKey is the modulus of the key that signs quotes of the vTPM. Of the rest of the JSON
// nothing is read: verifiers do.
func hclKey(runtime []byte) ([]byte, error) {
	var named struct {
		Keys []struct {
			ID      string `json:"kid"`
			Type    string `json:"kty"`
			Modulus string `json:"n"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(runtime, &named); err != nil {
		return nil, err
	}
	var found []byte
	for _, key := range named.Keys {
		if key.ID != "HCLAkPub" {
			continue
		}
		modulus, err := base64.RawURLEncoding.DecodeString(key.Modulus)
		if found != nil || key.Type != "RSA" || err != nil || len(modulus) == 0 {
			return nil, errors.New("it must name one key HCLAkPub, of RSA")
		}
		found = modulus
	}
	if found == nil {
		return nil, errors.New("it names no key HCLAkPub")
	}
	return found, nil
}
