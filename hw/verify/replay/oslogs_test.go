package replay

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// TestSharedIMALog replays the log of a kernel that extends RTMR2 for IMA.
func TestSharedIMALog(t *testing.T) {
	const shared = "/work/shared/testdata/evidence-api"
	entries, err := os.ReadFile(filepath.Join(shared, "ima.ascii"))
	if err != nil {
		t.Skipf("left out: %v (captured on a real TD, not part of the repo)", err)
	}
	ccel, err := os.ReadFile(filepath.Join(shared, "ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	buffer, err := os.ReadFile(filepath.Join(shared, "quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	q, _, err := dcap.CutQuote(buffer)
	if err != nil {
		t.Fatal(err)
	}
	registers, err := boot.Replay(ccel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OSLogs([]rpc.OSLog{{Register: "rtmr2", Format: rpc.FormatIMA, Entries: entries}}, &registers); err != nil {
		t.Fatal(err)
	}
	if registers[2] != q.Registers.RTMR[2] {
		t.Error("RTMR2 is not what boot log and IMA log replay to")
	}
}
