package vtpm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/v2"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var testdata = flag.String("testdata", "", "`DIR` of the project's testdata, which is not part of the tree")

// azure is evidence of Azure's VMs as others write it.
type azure struct {
	Evidence *azure `json:"evidence"`
	TPM      *struct {
		Signature loose   `json:"signature"`
		Message   loose   `json:"message"`
		PCRs      []loose `json:"pcrs"`
	} `json:"tpm_quote"`
	Quote *struct { // Trustee's first form
		Signature loose   `json:"signature"`
		Message   loose   `json:"message"`
		PCRs      []loose `json:"pcrs"`
	} `json:"quote"`
	HCL    loose `json:"hcl_report"`
	Report loose `json:"report"`
}

// loose are bytes in hex, in base64, or as an array of numbers.
type loose []byte

func (l *loose) UnmarshalJSON(b []byte) error {
	var numbers []int
	if json.Unmarshal(b, &numbers) == nil {
		for _, n := range numbers {
			*l = append(*l, byte(n))
		}
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.RawURLEncoding.DecodeString, base64.StdEncoding.DecodeString} {
		if got, err := decode(strings.TrimRight(s, "=")); err == nil {
			*l = got
			return nil
		}
	}
	got, err := base64.StdEncoding.DecodeString(s)
	*l = got
	return err
}

// TestFixtures: quotes of real TPMs in Azure's paravisors hold, and no bit of them is free.
func TestFixtures(t *testing.T) {
	if *testdata == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	for _, name := range []string{
		"attestation-rs/az_tdx/live-evidence.json", "attestation-rs/az_tdx/evidence-v1.json", "attestation-rs/az_snp/evidence-v1.json",
		"attestation-rs/az_snp/live-evidence.json", "attestation-rs/az_snp/milan-v3-attestation.json",
		"trustee/az-snp-vtpm/evidence-v0.json", "trustee/az-snp-vtpm/evidence-v1.json", "trustee/az-snp-vtpm/evidence-v2.json",
		"trustee/az-snp-vtpm/evidence-genoa.json", "trustee/az-tdx-vtpm/evidence-v0.json", "trustee/az-tdx-vtpm/evidence-v1.json",
	} {
		raw, err := os.ReadFile(filepath.Join(*testdata, "platforms", name))
		if err != nil {
			t.Fatal(err)
		}
		var e azure
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Evidence != nil {
			e = *e.Evidence
		}
		quote, hcl := e.TPM, e.HCL
		if quote == nil {
			quote, hcl = e.Quote, e.Report
		}
		if quote == nil || len(hcl) < 0x4D4 {
			t.Errorf("%s: no quote, or a report of %d bytes", name, len(hcl))
			continue
		}
		text := hcl[0x4D4:][:binary.LittleEndian.Uint32(hcl[0x4D0:])]
		at := 0x20 + 0x50 // REPORT_DATA of an SNP report
		if binary.LittleEndian.Uint32(hcl[0x4C8:]) == 4 {
			at = 0x20 + 128 // REPORTDATA of a TDREPORT
		}
		var pcrs []byte
		for _, v := range quote.PCRs {
			pcrs = append(pcrs, v...)
		}
		signature := append([]byte{0, 0x14, 0, 0x0B, 1, 0}, quote.Signature...)
		parts := [][]byte{text, quote.Message, signature, pcrs}
		reportData := [64]byte(hcl[at:])
		q, err := verified(parts[0], parts[1], parts[2], parts[3], reportData)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		bits, free := 0, 0
		for i, part := range parts {
			for bit := range len(part) * 8 {
				all := slices.Clone(parts)
				all[i] = slices.Clone(part)
				all[i][bit/8] ^= 1 << (bit % 8)
				if _, err := verified(all[0], all[1], all[2], all[3], reportData); err == nil {
					free++
					t.Errorf("%s: part %d: byte %d, bit %d is free", name, i, bit/8, bit%8)
				}
			}
			bits += len(part) * 8
		}
		t.Logf("%s: %s, data %q: %d bits, %d free", name, q.Bank, q.Data, bits, free)
	}
}
