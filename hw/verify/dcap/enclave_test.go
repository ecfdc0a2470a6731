package dcap

import (
	"bytes"
	"testing"

	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw/sim"
)

// TestForeignEnclave: a platform's key vouches for any enclave that its owner
// gives the provisioning key to. Such an enclave could sign any registers, so
// each value of its identity must be Intel's.
func TestForeignEnclave(t *testing.T) {
	for name, raw := range map[string][]byte{"v4": testdata.RawQuote, "v5": testdata.RawQuoteV5} {
		if found, ok := parse(t, cut(t, raw)).CheckEnclave(); !ok || len(found) != 6 || len(wrong(found)) > 0 {
			t.Errorf("%s: %v, %+v", name, ok, found)
		}
	}
	for name, c := range map[string]struct {
		change func(q *Quote, e *pb.EnclaveReport)
		wrong  string
	}{
		"signer":            {func(_ *Quote, e *pb.EnclaveReport) { e.MrSigner[31] ^= 1 }, "MRSIGNER of the quoting enclave"},
		"product":           {func(_ *Quote, e *pb.EnclaveReport) { e.IsvProdId = 1 }, "ISVPRODID"},
		"under debug":       {func(_ *Quote, e *pb.EnclaveReport) { e.Attributes[0] |= 2 }, "ATTRIBUTES"},
		"no provisioning":   {func(_ *Quote, e *pb.EnclaveReport) { e.Attributes[0] &^= 0x10 }, "ATTRIBUTES"},
		"misc":              {func(_ *Quote, e *pb.EnclaveReport) { e.MiscSelect = 1 }, "MISCSELECT"},
		"module's signer":   {func(q *Quote, _ *pb.EnclaveReport) { q.moduleSigner = bytes.Repeat([]byte{1}, 48) }, "MRSIGNERSEAM"},
		"module under test": {func(q *Quote, _ *pb.EnclaveReport) { q.moduleAttributes = []byte{7: 0x80} }, "SEAMATTRIBUTES"},
	} {
		q := parse(t, cut(t, testdata.RawQuoteV5))
		c.change(q, q.enclave)
		found, ok := q.CheckEnclave()
		if got := wrong(found); !ok || len(got) != 1 || got[0] != c.wrong {
			t.Errorf("%s: %v, wrong %q", name, ok, got)
		}
	}
	// A simulated TD has its own enclave, under its own root.
	raw, err := simulated(t, sim.Config{}).Quote(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := parse(t, raw).CheckEnclave(); ok {
		t.Errorf("of a simulated TD: %+v", found)
	}
}

func parse(t *testing.T, raw []byte) *Quote {
	t.Helper()
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func wrong(found []Finding) (names []string) {
	for _, f := range found {
		if !f.OK {
			names = append(names, f.What)
		}
	}
	return names
}
