//go:build linux

package hw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
)

// TDXOptions say where the kernel's files are. The zero value means this
// machine; tests give a tree of their own and stand in for the few calls that
// a tree can't answer.
type TDXOptions struct {
	SysRoot  string // "/sys"
	DevRoot  string // "/dev"
	ProcRoot string // "/proc"
	EtcRoot  string // "/etc"

	Files    Files                                                    // nil: the kernel's
	TDReport func(device string, data ReportData) ([]byte, error)     // nil: the driver's ioctl; 1024 bytes
	Dial     func(ctx context.Context, port uint32) (net.Conn, error) // nil: vsock to the host
}

// TDX is the TD that this process runs in, through the kernel's own
// interfaces. Each call uses the interfaces that are there, by feature and not by
// the kernel's version; Probe reports them. Its methods may be called from many
// goroutines at once. Their errors are *Error, or ctx's. It satisfies TEE.
type TDX struct {
	paths
	files    Files
	tdReport func(device string, data ReportData) ([]byte, error)
	dial     func(ctx context.Context, port uint32) (net.Conn, error)

	provider string // of reports in configfs-tsm

	turn  chan struct{} // held during a quote by configfs-tsm
	sweep sync.Once
}

var _ TEE = (*TDX)(nil)

// NewTDX checks nothing. The call that needs an interface reports that it is
// missing, and so does Probe.
func NewTDX(options TDXOptions) *TDX {
	t := &TDX{paths: newPaths(options), provider: providerTDX, files: options.Files, tdReport: options.TDReport, dial: options.Dial, turn: make(chan struct{}, 1)}
	if t.files == nil {
		t.files = kernelFiles{}
	}
	if t.tdReport == nil {
		t.tdReport = tdReport
	}
	if t.dial == nil {
		t.dial = dialVsock
	}
	return t
}

// Parts are a TD's own: no other party stands between it and its hardware.
func (t *TDX) Parts() Parts { return TDXParts() }

// Open takes a quote apart.
func (t *TDX) Open(quote []byte) (Signed, error) { return OpenTDX(quote) }

// exists reports whether a file is there, even where it can't be read.
func (t *TDX) exists(path string) bool {
	return !errors.Is(t.files.Access(path, false), syscall.ENOENT)
}

// Quote makes a quote over data: by the host's service where
// /etc/tdx-attest.conf names its port and it answers, else by configfs-tsm.
func (t *TDX) Quote(ctx context.Context, data ReportData) ([]byte, error) {
	raw, place, err := t.rawQuote(ctx, data)
	if err != nil {
		return nil, err
	}
	quote, _, err := boundQuote(raw, data)
	if err != nil {
		return nil, NewError(OpQuote, place, err)
	}
	return quote, nil
}

// rawQuote returns the host's answer, and the path or address that gave it.
func (t *TDX) rawQuote(ctx context.Context, data ReportData) (raw []byte, place string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	conf, err := t.qgsConf()
	if err != nil {
		return nil, "", err
	}
	tsm := t.exists(t.reports())
	if conf.port != 0 && t.exists(t.device()) {
		raw, err := t.quoteQGS(ctx, conf.port, data)
		if !errors.Is(err, errNoQGS) || !tsm {
			return raw, qgsPlace(conf.port), err
		}
	}
	if !tsm {
		return nil, "", t.noQuote()
	}
	raw, err = t.quoteTSM(ctx, data)
	return raw, t.reports(), err
}

// Registers returns MRTD and RTMR0–3: from a TDREPORT, else from a quote, else
// from sysfs. Sysfs is a cache, which extends made elsewhere in the kernel leave
// stale. Probe reports which of them is used.
func (t *TDX) Registers(ctx context.Context) (Registers, error) {
	if err := ctx.Err(); err != nil {
		return Registers{}, err
	}
	if t.exists(t.device()) {
		report, err := t.report(readingData())
		if err == nil {
			return reportRegisters(report), nil
		}
		if !errors.Is(err, syscall.ENOTTY) {
			return Registers{}, err
		}
	}
	if t.exists(t.reports()) {
		return t.quotedRegisters(ctx)
	}
	if t.exists(t.register("rtmr3")) {
		return t.cachedRegisters()
	}
	return Registers{}, t.noRegisters()
}

func (t *TDX) quotedRegisters(ctx context.Context) (Registers, error) {
	raw, err := t.quoteTSM(ctx, readingData())
	if err != nil {
		return Registers{}, err
	}
	_, registers, err := boundQuote(raw, readingData())
	if err != nil {
		return Registers{}, NewError(OpRegisters, t.reports(), err)
	}
	return registers, nil
}

func (t *TDX) cachedRegisters() (registers Registers, err error) {
	into := map[string]*Digest{"mrtd": &registers.MRTD}
	for i := range registers.RTMR {
		into[fmt.Sprintf("rtmr%d", i)] = &registers.RTMR[i]
	}
	for name, digest := range into {
		value, err := t.files.Read(t.register(name), len(digest))
		if err == nil && len(value) != len(digest) {
			err = fmt.Errorf("%w: a register of %d bytes", ErrMalformed, len(value))
		}
		if err != nil {
			return Registers{}, NewError(OpRegisters, t.register(name), err)
		}
		*digest = Digest(value)
	}
	return registers, nil
}

// Extend extends RTMR3 by one write of 48 bytes to sysfs (Linux 6.16). An error
// does not say that nothing happened: read the register.
func (t *TDX) Extend(ctx context.Context, digest Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := t.register("rtmr3")
	var n int
	var err error
	done := make(chan struct{})
	// A signal while the kernel waits for its lock would be an EINTR.
	withoutSignals(func() {
		n, err = t.files.Write(path, digest[:])
		close(done)
	})
	<-done
	switch {
	case errors.Is(err, syscall.ENOENT):
		return t.unavailable(OpExtend, t.probeMeasurements())
	case err != nil || n != len(digest):
		return NewError(OpExtend, path, wrote(n, len(digest), err))
	}
	return nil
}

// BootLog returns the CCEL as the firmware left it, padding included.
func (t *TDX) BootLog() ([]byte, error) {
	const limit = 4 << 20
	log, err := t.files.Read(t.bootLog(), limit)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil, &Error{Op: OpBootLog, Path: t.bootLog(), Errno: syscall.ENOENT, Err: ErrUnsupported, Advice: "the firmware left no event log for TDs, or the kernel does not show it"}
	case err != nil:
		return nil, NewError(OpBootLog, t.bootLog(), err)
	case len(log) == 0:
		return nil, NewError(OpBootLog, t.bootLog(), fmt.Errorf("%w: an empty log", ErrMalformed))
	}
	if err := t.checkBootTable(); err != nil {
		return nil, err
	}
	return log, nil
}

// checkBootTable checks that the log is a TD's, where the table is there:
// its byte 36 is the type, 2 for TDX (ACPI 6.5, CCEL; UEFI 2.10, section 38.4.1).
func (t *TDX) checkBootTable() error {
	table, err := t.files.Read(t.bootTable(), 4096)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return NewError(OpBootLog, t.bootTable(), err)
	}
	if len(table) < 56 || string(table[:4]) != "CCEL" || table[36] != 2 {
		return NewError(OpBootLog, t.bootTable(), fmt.Errorf("%w: this is not the event log of a TD", ErrMalformed))
	}
	return nil
}

// BootID returns the kernel's random id of this boot: a UUID, 36 characters.
func (t *TDX) BootID() (string, error) {
	path := t.proc("sys/kernel/random/boot_id")
	text, err := t.files.Read(path, 64)
	id := strings.TrimSpace(string(text))
	if err == nil && (len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "") {
		err = fmt.Errorf("%w: %q must be a boot id", ErrMalformed, id)
	}
	if err != nil {
		return "", NewError(OpBootID, path, err)
	}
	return id, nil
}
