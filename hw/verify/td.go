package verify

import (
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
)

// tdOf are the members of a quote that [td] is about.
func tdOf(q *dcap.Quote) policy.TD {
	td := policy.TD{
		Attributes: q.Attributes, XFAM: q.XFAM, MRSEAM: q.Module, ConfigID: q.ConfigID, Owner: q.Owner, OwnerConfig: q.OwnerConf,
		ServiceTD: q.ServiceTD,
	}
	if x := q.Extended; x != nil {
		td.Extended = &policy.Extended{VMID: x.VMID, DeviceInfo: x.DeviceInfo, InitialServiceTD: x.InitialServiceTD, CurrentServiceTD: x.CurrentServiceTD}
	}
	return td
}

// debug: the TD's host can't read or write its memory, and no service TD can but one that
// the policy knows.
func debug(q *dcap.Quote, opts Options) Step {
	found, gaps := opts.Policy.JudgeOpen(tdOf(q))
	var f findings
	f.add(found)
	var open []string
	for _, code := range gaps {
		if code == codes.TDOpen {
			open = append(open, "the TD is under debug: its host can read and write its memory")
		} else {
			open = append(open, "the TD can be migrated: a service TD of its host's choice can read its memory")
		}
	}
	switch words := strings.Join(open, "; "); {
	case len(f.wrong) > 0:
		return fail(words, f.compared...)
	case len(open) > 0 && q.ServiceTD != nil && *q.ServiceTD != (hw.Digest{}) && gaps[0] == codes.ServiceTD:
		return pass("the TD is not under debug; the policy knows its service TD", f.compared...)
	case len(open) > 0:
		return warn(words+"; the policy allows it", f.compared...)
	}
	return pass("the TD is not under debug, and can't be migrated", f.compared...)
}

// tdValues: attributes and configuration of the TD are as the policy says. Without one,
// the usual ones are told of.
func tdValues(q *dcap.Quote, opts Options) Step {
	var f findings
	f.add(opts.Policy.JudgeTD(tdOf(q)))
	s := f.step("attributes and configuration of the TD are as expected")
	if opts.Policy == nil && s.Outcome == Fail {
		return warn(strings.Join(f.wrong, "; "), f.compared...)
	}
	return s
}
