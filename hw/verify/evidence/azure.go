package evidence

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/vtpm"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

// TPM is what the evidence holds of a TPM in the paravisor.
type TPM struct {
	Quote   *vtpm.Quote
	runtime *vtpm.Runtime
	log     *vtpm.Log // nil where the claims name another
}

// readAzure reads the evidence of a VM of Azure's: the hardware signs for the TPM's key, and
// the key for the claims.
func (ev *Bundle) readAzure() (err error) {
	p := ev.Wire.Platform
	if ev.Wire.TEE == hw.TEEAzureSNP {
		if ev.SNP, err = snp.Parse(ev.Wire.Quote, p.Certificates); err == nil && ev.SNP.Leaf == nil {
			err = errors.New("evidence of an SNP guest of Azure's must have platform.certificates: the host gives them")
		}
	} else if ev.Quote, err = dcap.ParseQuote(ev.Wire.Quote); err == nil && p.Certificates != nil {
		err = errors.New("evidence of a TD must not have platform.certificates")
	}
	if err != nil {
		return err
	}
	ev.TPM = &TPM{}
	if ev.TPM.runtime, err = vtpm.ReadRuntime(p.RuntimeData); err != nil {
		return err
	}
	if ev.TPM.Quote, err = vtpm.Parse(p.TPMQuote, p.TPMSignature, p.PCRs); err != nil {
		return err
	}
	anchor := ev.Claims.Log.Anchor
	switch {
	case ev.Claims.BootLogFormat != hw.BootLogTPM:
		return fmt.Errorf("claims of a VM with a TPM in its paravisor must have boot_log_format %q, not %q", hw.BootLogTPM, ev.Claims.BootLogFormat)
	case len(ev.Wire.OSLogs) > 0:
		return errors.New("evidence of a VM with a TPM in its paravisor must have no log of the operating system: nothing says which PCR holds it")
	case anchor != logs.AnchorPCR && anchor != logs.AnchorReportData:
		return fmt.Errorf("claims of a VM with a TPM in its paravisor must have log.anchor %q or %q, not %q", logs.AnchorPCR, logs.AnchorReportData, anchor)
	}
	if ev.bootLogNamed() {
		ev.TPM.log, err = vtpm.ReadLog(ev.Wire.BootLog)
	}
	return err
}

// bootLogNamed reports whether the boot log is the one that the claims name.
func (ev *Bundle) bootLogNamed() bool { return sha512.Sum384(ev.Wire.BootLog) == ev.Claims.BootLog }

// Behind says why what stands behind the hardware's quote does not hold; nil: it does, or
// the hardware signed the claims itself. Whoever has the paravisor has the key; VMPL 0 is
// the paravisor's, and the operating system must not pass for it.
func (ev *Bundle) Behind() error {
	if ev.TPM == nil {
		return nil
	}
	data := [64]byte{}
	switch {
	case ev.SNP == nil:
		data = ev.Quote.ReportData
	case ev.SNP.VMPL != 0:
		return fmt.Errorf("the SNP report must be the paravisor's, of VMPL 0, not of VMPL %d", ev.SNP.VMPL)
	default:
		data = ev.SNP.ReportData
	}
	if err := ev.TPM.runtime.BoundBy(data); err != nil {
		return err
	}
	return ev.TPM.Quote.Verify(ev.TPM.runtime.AK)
}

// firmwarePCRs are those that firmware extends before it starts the operating system, and
// nothing else (TCG PC Client Platform Firmware Profile 1.06, section 3.3.4).
const firmwarePCRs = 8

// BootedPCRs replays the boot log, and says which PCRs hold something else, as they do where
// the system extended more. It fails where that is one of the firmware's.
func (ev *Bundle) BootedPCRs() (events int, later []int, err error) {
	q, log := ev.TPM.Quote, ev.TPM.log
	if log == nil {
		return 0, nil, errors.New("the boot log is not the one that the claims name")
	}
	values, err := log.Replay(q.Bank)
	if err != nil {
		return 0, nil, err
	}
	for i, v := range values {
		switch same := bytes.Equal(v, q.PCR(i)); {
		case !same && i < firmwarePCRs:
			return 0, nil, fmt.Errorf("PCR %d holds something else than the boot log replays to", i)
		case !same:
			later = append(later, i)
		}
	}
	return log.Len(), later, nil
}

// Measured are the values of PCRs 0–23, and the digests of all events of the boot log, as a
// policy writes them; none without a TPM.
func (ev *Bundle) Measured() iter.Seq2[string, string] {
	return func(yield func(what, digest string) bool) {
		for i, value := range ev.PCRs() {
			if !yield(fmt.Sprintf("PCR %d", i), vtpm.Word(value)) {
				return
			}
		}
		if ev.TPM == nil || ev.TPM.log == nil {
			return
		}
		for d := range ev.TPM.log.Digests() {
			if !yield("boot event", d) {
				return
			}
		}
	}
}

// InPCR reports whether a PCR holds the runtime log, which replays to it.
func (ev *Bundle) InPCR() bool {
	return ev.TPM != nil && ev.Claims.Log.Anchor == logs.AnchorPCR && !ev.Private()
}

// LogPCR is the PCR that holds the runtime log and held nothing before; -1 for none.
func (ev *Bundle) LogPCR() int {
	if ev.TPM == nil || ev.Claims.Log.Anchor != logs.AnchorPCR {
		return -1
	}
	r, first, err := ev.logRegister()
	if small, _ := first.SHA256(); err != nil || small != [32]byte{} {
		return -1
	}
	if large, _ := first.SHA384(); large != [48]byte{} {
		return -1
	}
	return r
}

// logRegister is which PCR holds the runtime log by event 0, and what it held before.
func (ev *Bundle) logRegister() (number int, first pcr.Value, err error) {
	var start logs.StartBody
	if len(ev.Log) == 0 || ev.Log[0].Event == nil || canonical.Decode(ev.Log[0].Event.Body(), &start) != nil || start.Register == nil {
		return 0, first, errors.New("event 0 doesn't say which PCR holds the log")
	}
	if err := pcr.May(start.Register.PCR); err != nil {
		return 0, first, err
	}
	first, err = start.Register.First.Value()
	return start.Register.PCR, first, err
}

// HeldLog says which PCR holds the runtime log by event 0, what the log replays to in the
// quote's bank, and what was quoted, both in hex.
func (ev *Bundle) HeldLog() (number int, want, got string, err error) {
	number, value, err := ev.logRegister()
	if err != nil {
		return number, "", "", err
	}
	for _, e := range ev.Log {
		value = value.Extend(e.Digest)
	}
	small, has := value.SHA256()
	replayed := small[:]
	if ev.TPM.Quote.Bank == "sha384" {
		var large [48]byte
		large, has = value.SHA384()
		replayed = large[:]
	}
	if !has {
		return number, "", "", fmt.Errorf("event 0 doesn't say what PCR %d held in the bank of %s", number, ev.TPM.Quote.Bank)
	}
	return number, hex.EncodeToString(replayed), hex.EncodeToString(ev.TPM.Quote.PCR(number)), nil
}

// PCRs are the values of PCRs 0–23 as quoted; nil without a TPM.
func (ev *Bundle) PCRs() (values [][]byte) {
	if ev.TPM == nil {
		return nil
	}
	for i := range vtpm.Count {
		values = append(values, ev.TPM.Quote.PCR(i))
	}
	return values
}

// PCR is one register of a TPM: what the quote holds, and what a log of the evidence comes to.
type PCR struct {
	Held []byte // as quoted, in the quote's bank
	Logs []byte // what the log replays to; nil where there is no log, or none of this bank

	Firmware  bool // the boot log must explain it whole: nobody else extends it
	Runtime   bool // the log is the runtime log; else it is the boot log
	Untouched bool // it holds what it holds when a machine starts
}

// Replayed are PCRs 0–23, each beside its log's replay; nil without a TPM.
func (ev *Bundle) Replayed() (list []PCR) {
	var booted [vtpm.Count][]byte
	if ev.TPM != nil && ev.TPM.log != nil {
		booted, _ = ev.TPM.log.Replay(ev.TPM.Quote.Bank) // without this bank it explains nothing
	}
	for i, held := range ev.PCRs() {
		untouched := bytes.Count(held, []byte{0}) == len(held) || i >= 17 && i <= 22 && bytes.Count(held, []byte{0xFF}) == len(held)
		list = append(list, PCR{Held: held, Logs: booted[i], Firmware: i < firmwarePCRs, Untouched: untouched})
	}
	if ev.TPM == nil || ev.Claims.Log.Anchor != logs.AnchorPCR || ev.Private() {
		return list
	}
	if number, replayed, _, err := ev.HeldLog(); err == nil {
		list[number].Runtime = true
		list[number].Logs, _ = hex.DecodeString(replayed)
	}
	return list
}
