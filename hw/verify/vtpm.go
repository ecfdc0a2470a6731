package verify

import (
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify/evidence"
)

// bootedPCRs is the step boot-log of a VM whose registers are a TPM's PCRs: the log explains
// those of the firmware. What the operating system extended later is the policy's to know.
func bootedPCRs(ev *evidence.Bundle) Step {
	events, later, err := ev.BootedPCRs()
	if err != nil {
		return fail(err.Error())
	}
	words := fmt.Sprintf("%d boot events replay to PCRs 0–7", events)
	if len(later) > 0 {
		words += "; PCRs " + strings.Trim(fmt.Sprint(later), "[]") + " hold more, or something else"
	}
	return pass(words)
}

// logInPCR is the step runtime-log where a PCR holds the log.
func logInPCR(ev *evidence.Bundle) Step {
	number, want, got, err := ev.HeldLog()
	if err != nil {
		return fail(err.Error())
	}
	c := Comparison{fmt.Sprintf("PCR %d, %s", number, ev.TPM.Quote.Bank), got, want}
	later := len(ev.Log) - ev.Claims.Log.Count
	switch {
	case later < 0:
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", ev.Claims.Log.Count, len(ev.Log)))
	case want != got:
		return fail(fmt.Sprintf("PCR %d holds something else than the runtime log replays to", number), c)
	case later > 0:
		return pass(fmt.Sprintf("%d events replay to PCR %d; the last %d came after the claims and are not judged", len(ev.Log), number, later), c)
	}
	return pass(fmt.Sprintf("%d events replay to PCR %d", len(ev.Log), number), c)
}
