package daemon

import (
	"crypto/sha512"
	"fmt"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// replayView recomputes registers from event log records, as users of CIMA 0.5
// do.
func replayView(t *testing.T, records []rpc.EventRecord) (imr [4]hw.Digest) {
	t.Helper()
	for i, r := range records {
		if r.RecNum != i || r.EventSize != len(r.Event) || len(r.Digests) != 1 || len(r.Digests[0].Hash) != 48 {
			t.Fatalf("record %d: %+v", i, r)
		}
		if r.EventType == boot.EvNoAction {
			continue
		}
		imr[r.IMRIndex] = imr[r.IMRIndex].Extend(hw.Digest(r.Digests[0].Hash))
	}
	return imr
}

func TestCallsOfCIMA05InDocker(t *testing.T) {
	f := dockerFixture(t)
	hold := f.hold()
	call := func(method, params string) []byte {
		return []byte(docker(t, "exec", hold, "/cimactl", "call", method, params))
	}
	if got := decode[rpc.MeasurementCount](t, call(rpc.MethodGetMeasurementCount, "{}")); got.Count != 4 {
		t.Errorf("count %d", got.Count)
	}
	if got := decode[rpc.DefaultAlgorithm](t, call(rpc.MethodGetDefaultAlgorithm, "{}")); got.AlgoID != 12 || got.Algorithm != "sha384" {
		t.Errorf("algorithm %+v", got)
	}
	log := decode[rpc.CCEventLog](t, call(rpc.MethodGetCCEventLog, "{}"))
	imr := replayView(t, log.Events)
	for i := range 4 {
		m := decode[rpc.CCMeasurement](t, call(rpc.MethodGetCCMeasurement, fmt.Sprintf(`{"index":%d,"algo_id":12}`, i)))
		if m.Hash != imr[i] {
			t.Errorf("index %d: replay %v, register %v", i, imr[i], m.Hash)
		}
	}
	last := log.Events[len(log.Events)-1]
	if last.IMRIndex != 3 || sha512.Sum384(last.Event) != [48]byte(last.Digests[0].Hash) || len(last.ExtraInfo["rtmr3_digest"]) != 96 {
		t.Errorf("own record %+v", last)
	}
	report := decode[rpc.CCReport](t, call(rpc.MethodGetCCReport, `{"nonce":"AAAAAAAAAAA="}`))
	data, err := rpc.ReportData(report.Claims)
	if err != nil || report.CCType != 1 || !rpc.VerifyReportData(f.daemon.key.public(), data, report.AgentSignature) {
		t.Errorf("report: %v", err)
	}
}
