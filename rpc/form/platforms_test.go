package form

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/rpc"
)

// platforms are bundles of each TEE that is no TD, and the media types of their quotes and
// boot logs.
func platforms(t testing.TB) map[*rpc.Evidence][2]string {
	t.Helper()
	snp, azureSNP, azureTDX := evidence(t, nil), evidence(t, []byte("a TPM's log")), evidence(t, []byte("a TPM's log"))
	snp.TEE, snp.BootLog, snp.Platform = "snp", []byte{}, rpc.Platform{Certificates: [][]byte{{1, 2}, {3}}}
	behind := rpc.Platform{RuntimeData: []byte(`{"keys":[]}`), TPMQuote: []byte("q"), TPMSignature: []byte("s"), PCRs: bytes.Repeat([]byte{9}, 64)}
	azureTDX.TEE, azureTDX.Platform = "azure-tdx", behind
	azureSNP.TEE, azureSNP.Platform = "azure-snp", behind
	azureSNP.Platform.Certificates = [][]byte{{1}}
	const intel, amd = "application/vnd.intel.tdx-quote", "application/vnd.amd.sev-snp.attestation-report"
	const tpm = "application/vnd.cima.tpm-event-log"
	return map[*rpc.Evidence][2]string{snp: {amd, "application/octet-stream"}, azureSNP: {amd, tpm}, azureTDX: {intel, tpm}}
}

// TestEachTEE: the whole forms hold all of each TEE's evidence, under the media types of what
// it is. Those of RTMRs are refused: there are none.
func TestEachTEE(t *testing.T) {
	for e, types := range platforms(t) {
		for _, form := range []string{CIMA, CMW, CMWCBOR} {
			text, err := Encode(e, form)
			if err != nil {
				t.Fatalf("%s, %s: %v", e.TEE, form, err)
			}
			got, err := Decode(text)
			if err != nil {
				t.Fatalf("%s, %s: %v", e.TEE, form, err)
			}
			if diff := cmp.Diff(e, got.Evidence); diff != "" || got.Events != nil {
				t.Errorf("%s, %s: %d events; %s", e.TEE, form, len(got.Events), diff)
			}
			if form != CMW {
				continue
			}
			var collection map[string]any
			if err := json.Unmarshal(text, &collection); err != nil {
				t.Fatal(err)
			}
			for i, name := range []string{"quote", "boot_log"} {
				if media := collection[name].([]any)[0]; media != types[i] {
					t.Errorf("%s: %s has the type %s, must have %s", e.TEE, name, media, types[i])
				}
			}
			// Another TEE's type is refused, in either encoding.
			other := bytes.Replace(text, []byte(types[0]), []byte("application/octet-stream"), 1)
			if _, err := Decode(other); err == nil || !strings.Contains(err.Error(), "must be") {
				t.Errorf("%s: a quote of another type: %v", e.TEE, err)
			}
		}
		for _, form := range []string{Trustee, TrusteeRequest, CEL, CELTLV} {
			if text, err := Encode(e, form); err == nil || !strings.Contains(err.Error(), "RTMR0 to 3") {
				t.Errorf("%s, %s: %v, %.80s", e.TEE, form, err, text)
			}
		}
	}
}

// TestTypesOfCBOR: a part of the binary collection under another TEE's media type is refused.
func TestTypesOfCBOR(t *testing.T) {
	const amd, intel = "x\x2eapplication/vnd.amd.sev-snp.attestation-report", "x\x1fapplication/vnd.intel.tdx-quote"
	for e := range platforms(t) {
		text, err := Encode(e, CMWCBOR)
		if err != nil {
			t.Fatal(err)
		}
		from, to := amd, intel
		if e.TEE == "azure-tdx" {
			from, to = intel, amd
		}
		if !bytes.Contains(text, []byte(from)) {
			t.Fatalf("%s: no %q", e.TEE, from)
		}
		if _, err := Decode(bytes.Replace(text, []byte(from), []byte(to), 1)); err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("%s: %v", e.TEE, err)
		}
	}
}
