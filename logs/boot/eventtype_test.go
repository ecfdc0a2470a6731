package boot

import (
	"strings"
	"testing"

	"github.com/google/go-eventlog/tcg"
)

func TestTypeNamesAsGoEventlogKnowsThem(t *testing.T) {
	same := 0
	for typ := uint32(0); typ < 0x100; typ++ {
		for _, base := range []uint32{0, EvEFIEventBase} {
			theirs, ours := tcg.EventType(base+typ).TCGString(), TypeName(base+typ)
			if theirs == ours {
				same++
			} else if known := !strings.HasPrefix(ours, "unknown"); known && strings.HasPrefix(theirs, "EV_") {
				t.Errorf("%#x: %s, by go-eventlog %s", base+typ, ours, theirs)
			}
		}
	}
	if same < 30 {
		t.Errorf("only %d names are the same", same)
	}
	if got := TypeName(0x08000001); got != "unknown (0x08000001)" {
		t.Error(got)
	}
}
