package verify

import (
	"bytes"
	"testing"

	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/testing/testdata"
)

// TestForeignEnclave: the key of a platform vouches for whatever enclave its
// owner gives the provisioning key to. Such an enclave could sign any registers,
// so it is refused without collateral too.
func TestForeignEnclave(t *testing.T) {
	for name, raw := range map[string][]byte{"v4": testdata.RawQuote, "v5": testdata.RawQuoteV5} {
		r := appraiseFiles(t, Files{Quote: raw}, Options{At: whenMade})
		expect(t, r, Authentic)
		if s := r.Step(StepEnclave); s.Outcome != Pass || len(s.Compared) != 6 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, change := range map[string]func(q *Quote, e *pb.EnclaveReport){
		"signer":            func(_ *Quote, e *pb.EnclaveReport) { e.MrSigner[31] ^= 1 },
		"product":           func(_ *Quote, e *pb.EnclaveReport) { e.IsvProdId = 1 },
		"under debug":       func(_ *Quote, e *pb.EnclaveReport) { e.Attributes[0] |= 2 },
		"no provisioning":   func(_ *Quote, e *pb.EnclaveReport) { e.Attributes[0] &^= 0x10 },
		"misc":              func(_ *Quote, e *pb.EnclaveReport) { e.MiscSelect = 1 },
		"module's signer":   func(q *Quote, _ *pb.EnclaveReport) { q.moduleSigner = bytes.Repeat([]byte{1}, 48) },
		"module under test": func(q *Quote, _ *pb.EnclaveReport) { q.moduleAttributes = []byte{7: 0x80} },
	} {
		t.Run(name, func(t *testing.T) {
			a := &appraisal{opts: Options{At: whenMade}, bare: &bare{files: Files{Quote: cut(t, testdata.RawQuoteV5)}}}
			format := a.readFiles()
			another, err := ParseQuote(cut(t, testdata.RawQuoteV5)) // the signed one stays
			if err != nil {
				t.Fatal(err)
			}
			a.quote.enclave = another.enclave
			change(a.quote, a.quote.enclave)
			r, err := a.judge(t.Context(), format, bareSteps)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, r, NotAuthentic, StepEnclave)
		})
	}
	// A simulated TD's enclave is its own, and under its root only.
	w := twoContainers(t)
	r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepEnclave); s.Outcome != Skip {
		t.Errorf("of a simulated TD: %+v", s)
	}
}
