package evidence

import (
	"cmp"
	"fmt"

	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// earlierProfile names evidence that is not appraised any more: its launches don't say
// all that was asked for.
const earlierProfile = "https://github.com/cima-project/cima/evidence/v1"

// Unreadable is what to do about evidence that can't be read.
func Unreadable(bundle []byte) string {
	var e struct {
		Profile    string `json:"profile"`
		RuntimeLog []struct {
			Event []byte `json:"event"`
		} `json:"runtime_log"`
	}
	if canonical.Decode(bundle, &e) != nil || e.Profile != earlierProfile {
		return "get the evidence again; it is refused wherever a byte of it could change unnoticed"
	}
	version := ""
	if len(e.RuntimeLog) > 0 {
		if first, err := logs.ParseEvent(e.RuntimeLog[0].Event); err == nil && first.Operation == logs.OpStart {
			var start logs.StartBody
			if canonical.Decode(first.Body(), &start) == nil {
				version = start.Version
			}
		}
	}
	return fmt.Sprintf("this is evidence of profile v1; this cimactl reads profile v2. Upgrade cimad and get the evidence again, or read it with the cimactl of that cimad's version (%s)",
		replay.Printable(replay.Clip(cmp.Or(version, "the evidence doesn't tell it"), 60)))
}
