package guest

import (
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/snp"
)

// Guest is what an SNP report says of its guest.
type Guest struct {
	Line        snp.Line  `json:"line"` // of the processor
	Measurement hw.Digest `json:"measurement"`
	IDKeyDigest hw.Digest `json:"id_key_digest,omitzero"` // who signed the ID block
	GuestSVN    uint32    `json:"guest_svn,omitzero"`
	Policy      string    `json:"policy"` // POLICY, in hex
	VMPL        uint32    `json:"vmpl"`
	TCB         string    `json:"tcb"`                // REPORTED_TCB, its parts by name
	Firmware    string    `json:"firmware"`           // that runs now
	Committed   string    `json:"committed_firmware"` // below which the host can't go back
	Fixes       uint64    `json:"fixes,omitzero"`     // CURRENT_MIT_VECTOR
	LaunchFixes uint64    `json:"launch_fixes,omitzero"`
}

// Describe reads a report. The line is that of a chain that is trusted, or "".
func Describe(a *snp.Report, line snp.Line) *Guest {
	return &Guest{
		Line: line, Measurement: hw.Digest(a.Measurement), IDKeyDigest: hw.Digest(a.IDKeyDigest), GuestSVN: a.GuestSVN,
		Policy: fmt.Sprintf("%#x", a.Policy), VMPL: a.VMPL, TCB: a.ReportedTCB.Words(line), Firmware: a.Current.String(),
		Committed: a.Committed.String(), Fixes: a.CurrentFixes, LaunchFixes: a.LaunchFixes,
	}
}
