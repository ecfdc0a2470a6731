// Package tpmlog answers: what would a TD have logged of this boot?
package tpmlog

import "github.com/cima-project/cima/logs/boot"

// AsTD makes of a TPM's log of SHA-384 what a TD would have logged, with the registers
// that it replays to. PCRs become RTMRs by UEFI 2.10, section 38.4.1.
func AsTD(raw []byte) ([]byte, boot.Registers, error) {
	log, err := boot.Parse(raw)
	if err != nil {
		return nil, boot.Registers{}, err
	}
	var events []boot.Event
	for _, e := range log.UnverifiedEvents() {
		pcr := e.MR
		switch {
		case e.Type == boot.EvNoAction || pcr == 0 || pcr > 15:
			continue
		case pcr == 1 || pcr == 7:
			e.MR = 1
		case pcr <= 6:
			if e.Type == boot.EvSeparator && pcr != 4 {
				continue // a TD has one of them
			}
			e.MR = 2
		default:
			e.MR = 3
		}
		events = append(events, boot.Event{MR: e.MR, Type: e.Type, Digest: e.Digest, Data: e.Data})
	}
	ccel := boot.Encode(events)
	registers, err := boot.Replay(ccel)
	return ccel, registers, err
}
