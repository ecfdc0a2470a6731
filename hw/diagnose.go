//go:build linux

package hw

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/cima-project/cima/hw/imds"
)

// What a Report says of interfaces that are not a TD's.
const (
	byReport  = "a report for each reading, which holds the launch measurement alone"
	byVTPM    = "a vTPM's key, and the hardware's word for it by cima-imds"
	byPCR     = "a PCR of the vTPM"
	byTPMLog  = "the TPM's event log"
	noNeed    = "none: anchor is \"report-data\""
	notLogged = "none: nothing in the TEE logged the boot"
)

// Diagnose says which platform this machine is, why, and what works of it. It makes no
// quote and changes nothing.
func Diagnose(ctx context.Context, o Options) Report {
	t := NewTDX(o.TDXOptions)
	var r Report
	switch {
	case t.exists(t.device()):
		r = t.Probe(ctx)
		r.Platform, r.Why = TEETDX, t.device()+" is there"
	case t.exists(t.snpDevice()):
		r = probeSNP(t)
		r.Platform, r.Why = TEESNP, t.snpDevice()+" is there, and "+t.device()+" is not"
	case onAzure(t):
		r = probeAzure(ctx, t, o)
	default:
		r = t.Probe(ctx)
		r.Why = fmt.Sprintf("neither %s nor %s is there, and this is no VM of Azure's with a TPM", t.device(), t.snpDevice())
	}
	return r
}

func probeSNP(t *TDX) Report {
	r := Report{Kernel: t.kernel()}
	tsm := t.probeTSM()
	if !tsm.OK {
		tsm.Advice = "modprobe tsm_report, modprobe sev-guest; kernels before 6.7 have no reports"
	}
	r.Checks = []Check{{Name: "device", Path: t.snpDevice(), OK: true, Found: "found"}, tsm}
	if tsm.OK {
		r.Quote, r.Registers, r.Extend, r.BootLog = byTSM, byReport, noNeed, notLogged
	}
	return r
}

// probeAzure asks the vTPM.
func probeAzure(ctx context.Context, t *TDX, o Options) Report {
	r := Report{Kernel: t.kernel(), Why: "the asset tag is Azure's, and " + t.tpmDevice() + " is there"}
	add := func(name, path, found string, err error) bool {
		c := Check{Name: name, Path: path, OK: err == nil, Found: found}
		if err != nil {
			e := NewError(OpReport, path, err)
			c.Found, c.Advice = e.Err.Error(), e.Advice
		}
		r.Checks = append(r.Checks, c)
		return c.OK
	}
	tee, err := Detect(ctx, o)
	a, _ := tee.(*azure)
	if !add("HCL report", t.tpmDevice(), "names the vTPM's key", err) || a == nil {
		return r
	}
	defer a.tpm.Close()
	r.Platform = a.report.tee
	r.Why += "; its HCL report is that of " + map[string]string{TEEAzureTDX: "a TD", TEEAzureSNP: "an SNP guest"}[a.report.tee]
	value, err := a.pcr(ctx)
	if err == nil && value.None() {
		err = errors.New("neither the bank of SHA-256 nor that of SHA-384 is active")
	}
	if add(fmt.Sprintf("PCR %d", a.number), t.tpmDevice(), value.String(), err) {
		r.Registers, r.Extend = byPCR, byPCR
	}
	log, err := a.BootLog()
	if add("boot log", a.bootLogPath(), fmt.Sprintf("%d bytes", len(log)), err) {
		r.BootLog = byTPMLog
	}
	err = t.files.Access(imds.Socket, true)
	if errors.Is(err, syscall.ENOENT) {
		err = &Error{Op: OpQuote, Path: imds.Socket, Errno: syscall.ENOENT, Err: errors.New("missing"), Advice: "systemctl start cima-imds.socket"}
	}
	if add("cima-imds", imds.Socket, "listens; whether the host answers is seen at the first evidence", err) {
		r.Quote = byVTPM
	}
	return r
}
