package evidence

import (
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/vtpm"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// readPlatform reads what the evidence's TEE signed and logged. Each TEE has members that
// it must have, and no others: evidence of one can't be taken for another's, and no member
// stands there that nothing judges.
func (ev *Bundle) readPlatform() (err error) {
	switch ev.Wire.TEE {
	case hw.TEETDX:
		err = ev.readTDX()
	case hw.TEESNP:
		err = ev.readSNP()
	case hw.TEEAzureTDX, hw.TEEAzureSNP:
		err = ev.readAzure()
	default:
		err = fmt.Errorf("evidence of a TEE %q: %q, %q, %q and %q are appraised here", ev.Wire.TEE, hw.TEETDX, hw.TEESNP, hw.TEEAzureTDX, hw.TEEAzureSNP)
	}
	return err
}

func (ev *Bundle) readTDX() (err error) {
	if ev.Quote, err = dcap.ParseQuote(ev.Wire.Quote); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if others(ev.Wire.Platform) != "" {
		return fmt.Errorf("evidence of a TD must not have platform.%s", others(ev.Wire.Platform))
	}
	if f := ev.Claims.BootLogFormat; f != "" {
		return fmt.Errorf("claims of a TD must not have boot_log_format %q: its boot log is a CCEL", f)
	}
	return ev.readBootLog()
}

// readSNP reads the evidence of an SNP guest that asked the firmware itself. Nothing in the
// TEE logged its boot, and no register holds its runtime log.
func (ev *Bundle) readSNP() (err error) {
	if ev.SNP, err = snp.Parse(ev.Wire.Quote, ev.Wire.Platform.Certificates); err != nil {
		return err
	}
	p := ev.Wire.Platform
	p.Certificates = nil
	switch {
	case others(p) != "":
		return fmt.Errorf("evidence of an SNP guest must not have platform.%s", others(p))
	case ev.Claims.BootLogFormat != hw.BootLogNone:
		return fmt.Errorf("claims of an SNP guest must have boot_log_format %q, not %q", hw.BootLogNone, ev.Claims.BootLogFormat)
	case len(ev.Wire.BootLog) > 0 || len(ev.Wire.OSLogs) > 0:
		return errors.New("evidence of an SNP guest must have no boot log and no log of the operating system: no register holds them")
	case ev.Claims.Log.Anchor != logs.AnchorReportData:
		return fmt.Errorf("claims of an SNP guest must have log.anchor %q, not %q", logs.AnchorReportData, ev.Claims.Log.Anchor)
	}
	return nil
}

// others names a member that is there, "" for none.
func others(p rpc.Platform) string {
	switch {
	case len(p.Certificates) > 0:
		return "certificates"
	case p.RuntimeData != nil:
		return "runtime_data"
	case p.TPMQuote != nil:
		return "tpm_quote"
	case p.TPMSignature != nil:
		return "tpm_signature"
	case p.PCRs != nil:
		return "pcrs"
	}
	return ""
}

// NoBootLog is what claims have as boot_log where there is none: SHA-384 of nothing.
func NoBootLog() rpc.Digest { return sha512.Sum384(nil) }

// Quoted is what was signed and must be made of report data, what it must be for these, and
// what its specification calls it.
func (ev *Bundle) Quoted(reportData [64]byte) (name string, want, got []byte) {
	switch {
	case ev.TPM != nil:
		return "qualifying data", vtpm.DataFor(reportData), ev.TPM.Quote.Data
	case ev.SNP != nil:
		return "REPORT_DATA", reportData[:], ev.SNP.ReportData[:]
	}
	return "REPORTDATA", reportData[:], ev.Quote.ReportData[:]
}

// Describe says of which form the evidence is, and how long its logs are.
func (ev *Bundle) Describe() string {
	log := fmt.Sprintf("runtime log of %d events", len(ev.Log))
	switch {
	case ev.TPM != nil && ev.SNP != nil:
		return fmt.Sprintf("TPM quote under an SNP report of version %d, %s", ev.SNP.Version, log)
	case ev.TPM != nil:
		return fmt.Sprintf("TPM quote under a quote version %d, %s", ev.Quote.Version, log)
	case ev.SNP != nil:
		return fmt.Sprintf("SNP report version %d, %s", ev.SNP.Version, log)
	}
	booted := 0
	if ev.BootLog != nil {
		booted = ev.BootLog.Len()
	}
	return fmt.Sprintf("quote version %d, boot log of %d events, %s", ev.Quote.Version, booted, log)
}
