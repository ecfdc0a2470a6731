package replay

import (
	"bytes"
	"testing"

	"github.com/google/go-tdx-guest/testing/testdata"
)

func TestTDReport(t *testing.T) {
	raw := make([]byte, reportSize)
	for i := range raw {
		raw[i] = byte(i * 7 / 3)
	}
	r, err := Files{TDReport: raw}.UnverifiedRegisters()
	if err != nil || !bytes.Equal(r.MRTD[:], raw[528:576]) || !bytes.Equal(r.RTMR[0][:], raw[720:768]) || !bytes.Equal(r.RTMR[3][:], raw[864:912]) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (Files{TDReport: raw[:1000]}).UnverifiedRegisters(); err == nil {
		t.Error("1000 bytes are a TDREPORT")
	}
	if _, err := (Files{}).UnverifiedRegisters(); err == nil {
		t.Error("nothing has registers")
	}
	if _, err := (Files{TDReport: testdata.RawReport}).UnverifiedRegisters(); err != nil {
		t.Errorf("a real one: %v", err)
	}
}
