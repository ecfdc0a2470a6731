package daemon

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// evidence requests evidence as this process, and returns the bundle as it
// came.
func (f *fixture) evidence() ([]byte, error) {
	var raw rawJSON
	err := f.client().Call(f.t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce}, &raw)
	return raw, err
}

type rawJSON []byte

func (r *rawJSON) UnmarshalJSON(b []byte) error { *r = append((*r)[:0], b...); return nil }

func TestHostEvidence(t *testing.T) {
	f := newFixture(t)
	bundle, err := f.evidence()
	if err != nil {
		t.Fatal(err)
	}
	f.wantAuthentic(bundle)
	claims := claimsOf(t, bundle)
	if claims.Host == nil || claims.Host.UID != uint32(os.Geteuid()) || claims.Container != nil {
		t.Errorf("claims %+v", claims)
	}
	if claims.Log.Count != 3 || claims.Log.Anchor != "rtmr3" {
		t.Errorf("log %+v", claims.Log)
	}
}

// Evidence is available in every form, and each form is read back to the same
// events.
func TestFormsOfEvidence(t *testing.T) {
	f := newFixture(t)
	for _, name := range form.Names[1:] {
		var got rpc.FormedEvidence
		err := f.client().Call(t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, Format: name}, &got)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		content, err := form.Decode(got.Content)
		if err != nil || got.Format != name || content.Form != name {
			t.Errorf("%s: read back as %+v: %v", name, content, err)
		}
	}
	err := f.client().Call(t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, Format: "nosuch"}, nil)
	wantCode(t, err, rpc.CodeInvalidParams)
	err = f.client().Call(t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, Format: form.Trustee, Shared: true}, nil)
	if e := wantCode(t, err, rpc.CodeInvalidParams); e.Data == nil || e.Data.Member != "shared" {
		t.Errorf("trustee, shared: %v", e)
	}
}

func TestMeasurementsAreTheRegisters(t *testing.T) {
	f := newFixture(t)
	var m rpc.Measurements
	if err := f.client().Call(t.Context(), rpc.MethodGetMeasurements, rpc.NoParams{}, &m); err != nil {
		t.Fatal(err)
	}
	now, err := f.machine.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := [...]hw.Digest{now.MRTD, now.RTMR[0], now.RTMR[1], now.RTMR[2], now.RTMR[3]}
	if got := [...]hw.Digest{m.MRTD, m.RTMR0, m.RTMR1, m.RTMR2, m.RTMR3}; got != want {
		t.Errorf("measurements %v, registers %v", got, want)
	}
	for i := range 3 {
		var one rpc.CCMeasurement
		if err := f.client().Call(t.Context(), rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: i}, &one); err != nil {
			t.Fatal(err)
		}
		if one.Hash != now.RTMR[i] || one.Index != i || one.AlgoID != 12 {
			t.Errorf("index %d: %+v", i, one)
		}
	}
	var none rpc.CCMeasurement
	err = f.client().Call(t.Context(), rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 3}, &none)
	wantCode(t, err, rpc.CodeInvalidParams)
}

func wantCode(t *testing.T, err error, code rpc.Code) *rpc.Error {
	t.Helper()
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
	return e
}

// No request can name its own caller.
func TestNoRequestNamesAContainer(t *testing.T) {
	f := newFixture(t)
	other := strings.Repeat("a", 64)
	for method, params := range map[string]map[string]any{
		rpc.MethodGetEvidence:      {"container_id": other, "nonce": nonce},
		rpc.MethodWhoAmI:           {"container_id": other},
		rpc.MethodGetMeasurements:  {"container_id": other},
		rpc.MethodGetCCMeasurement: {"container_id": other, "index": 3},
	} {
		err := f.client().Call(t.Context(), method, params, nil)
		if e := wantCode(t, err, rpc.CodeInvalidParams); !strings.Contains(e.Message, "container_id") {
			t.Errorf("%s: %v", method, e)
		}
	}
}

func TestForeignExtendStopsEvidenceOnly(t *testing.T) {
	f := newFixture(t)
	if _, err := f.evidence(); err != nil {
		t.Fatal(err)
	}
	if err := f.machine.Extend(t.Context(), hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	_, err := f.evidence()
	e := wantCode(t, err, rpc.CodeLogInconsistent)
	if e.Data == nil || e.Data.Agreed == nil || *e.Data.Agreed != 3 {
		t.Errorf("the error must have the last point of agreement: %+v", e.Data)
	}
	var who rpc.Identity
	if err := f.client().Call(t.Context(), rpc.MethodWhoAmI, rpc.NoParams{}, &who); err != nil {
		t.Errorf("the daemon answers nothing more: %v", err)
	}
	f.restart()
	_, err = f.evidence()
	wantCode(t, err, rpc.CodeLogInconsistent)
}

func TestHardwareErrorsAreTold(t *testing.T) {
	f := newFixture(t)
	f.machine.Inject(sim.Fault{Op: hw.OpQuote, Errno: syscall.EBUSY, Times: 1})
	_, err := f.evidence()
	e := wantCode(t, err, rpc.CodeTEEUnavailable)
	if e.Data == nil || e.Data.Errno != "EBUSY" {
		t.Errorf("errno: %+v", e.Data)
	}
	bundle, err := f.evidence()
	if err != nil {
		t.Fatalf("the call after a failed one: %v", err)
	}
	f.wantAuthentic(bundle)
}

func TestQuoteRateIsLimited(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.QuotesPerMinute, c.Limits.QuotesBurst = 1, 2 })
	for range 2 {
		if _, err := f.evidence(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.evidence()
	if e := wantCode(t, err, rpc.CodeRateLimited); e.RetryAfter() <= 0 {
		t.Error("the error must have a time to retry")
	}
}

func TestAnchorReportDataIsSaid(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Anchor = "report-data" })
	before, _ := f.machine.Registers(t.Context())
	bundle, err := f.evidence()
	if err != nil {
		t.Fatal(err)
	}
	after, _ := f.machine.Registers(t.Context())
	if before.RTMR[3] != (hw.Digest{}) || after.RTMR[3] != (hw.Digest{}) {
		t.Error("RTMR3 was extended, and it is another's")
	}
	r := f.wantAuthentic(bundle)
	if r.Step(verify.StepRuntimeLog).Outcome == verify.Pass {
		t.Error("the runtime log must not pass as anchored in RTMR3")
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	f := newFixture(t)
	_, err := New(t.Context(), f.daemon.opts)
	if err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Fatalf("a second daemon: %v", err)
	}
}
