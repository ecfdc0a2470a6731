//go:build linux

package hw

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Report is what Probe found, for cimactl doctor and for bug reports. It holds no
// secret and no register.
type Report struct {
	Platform string `json:"platform,omitempty"` // TEETDX and the like; empty: none was found
	Why      string `json:"why,omitempty"`      // why it is that

	Kernel string  `json:"kernel"` // release
	Checks []Check `json:"checks"`

	// The interface that calls use now, and its limits; empty where none can
	// be used.
	Quote     string `json:"quote,omitempty"`
	Registers string `json:"registers,omitempty"`
	Extend    string `json:"extend,omitempty"`
	BootLog   string `json:"boot_log,omitempty"`
}

// Check is one interface that Probe checked.
type Check struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`            // in a few words
	Advice string `json:"advice,omitempty"` // what to do, where it is not OK
}

// What a Report says of interfaces.
const (
	byTSM    = "configfs-tsm, one quote at a time and about one per second"
	byIoctl  = "TDREPORT ioctl"
	byQuote  = "a quote for each reading: slow"
	byCache  = "sysfs: a cache, which extends made elsewhere can leave stale"
	bySysfs  = "sysfs"
	byCCEL   = "CCEL table"
	unneeded = "not configured, not needed"
	needsTDX = "load it with modprobe tdx_guest, and see that this machine is a TD"
)

// Probe checks which interfaces are there. It reads a TDREPORT to see that the
// device works, connects to QGS where one is configured, and makes no quote.
func (t *TDX) Probe(ctx context.Context) Report {
	r := Report{Kernel: t.kernel()}
	add := func(c Check) bool {
		r.Checks = append(r.Checks, c)
		return c.OK
	}
	add(t.probeCPU())
	device := add(t.probeDevice())
	if t.exists(t.oldDevice()) && !device {
		add(Check{Name: "older device", Path: t.oldDevice(), Found: "found", Advice: "this is the interface of kernels before 6.2, which cima does not speak: use a newer kernel"})
	}
	tsm := add(t.probeTSM())
	measured := add(t.probeMeasurements())
	if add(t.probeBootLog()) {
		r.BootLog = byCCEL
	}
	qgs := t.probeQGS(ctx)
	switch answers := add(qgs); {
	case answers && device && qgs.Found != unneeded:
		r.Quote = "vsock to QGS, " + qgs.Found
	case tsm:
		r.Quote = byTSM
	}
	switch {
	case device:
		r.Registers = byIoctl
	case tsm:
		r.Registers = byQuote
	case t.files.Access(t.register("rtmr3"), false) == nil:
		r.Registers = byCache
	}
	if measured {
		r.Extend = bySysfs
	}
	return r
}

func (t *TDX) oldDevice() string {
	for _, name := range []string{"tdx-guest", "tdx-attest"} {
		if path := t.dev(name); t.exists(path) {
			return path
		}
	}
	return t.dev("tdx-guest")
}

func (t *TDX) kernel() string {
	text, err := t.files.Read(t.proc("sys/kernel/osrelease"), 256)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

func (t *TDX) probeCPU() Check {
	c := Check{Name: "processor", Path: t.proc("cpuinfo"), Found: "runs in a TD"}
	text, err := t.files.Read(c.Path, 4<<20)
	if err != nil {
		c.Found, c.Advice = err.Error(), advice(OpRegisters, errnoOf(err))
		return c
	}
	for line := range strings.Lines(string(text)) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if flag == "tdx_guest" {
				c.OK = true
				return c
			}
		}
	}
	c.Found, c.Advice = "no TD, as far as the kernel knows", "start the machine as a TD; cimad-sim stands in where there is none"
	return c
}

func (t *TDX) probeDevice() Check {
	c := Check{Name: "device", Path: t.device()}
	if !t.exists(c.Path) {
		c.Found, c.Advice = "missing", "the module tdx_guest is not loaded: "+needsTDX
		return c
	}
	if _, err := t.report(readingData()); err != nil {
		e := NewError(OpReport, c.Path, err)
		c.Found, c.Advice = e.Err.Error(), e.Advice
		return c
	}
	c.OK, c.Found = true, "gives TDREPORTs"
	return c
}

// probeTSM finds the first part of the path to reports that is missing.
func (t *TDX) probeTSM() Check {
	c := Check{Name: "configfs-tsm", Path: t.reports()}
	config := t.sys("kernel/config")
	err := t.files.Access(c.Path, true)
	switch {
	case err == nil:
		c.OK, c.Found = true, "found"
	case !errors.Is(err, syscall.ENOENT):
		c.Found, c.Advice = err.Error(), advice(OpQuote, errnoOf(err))
	case !t.exists(config):
		c.Found, c.Advice = "no configfs", "load it with modprobe configfs"
	case t.empty(config):
		c.Found, c.Advice = "configfs is not mounted, or nothing uses it", "mount -t configfs none "+config+", and modprobe tdx_guest"
	default:
		c.Found, c.Advice = "configfs without reports", "modprobe tsm_report, modprobe tdx_guest; kernels before 6.7 have neither"
	}
	return c
}

func (t *TDX) empty(dir string) bool {
	names, err := t.files.List(dir, 1)
	return err == nil && len(names) == 0
}

func (t *TDX) probeMeasurements() Check {
	c := Check{Name: "measurement registers", Path: t.register("rtmr3")}
	err := t.files.Access(c.Path, true)
	switch {
	case err == nil:
		c.OK, c.Found = true, "can be extended"
	case errors.Is(err, syscall.ENOENT):
		c.Found, c.Advice = "missing", t.needs616()
	default:
		c.Found, c.Advice = err.Error(), advice(OpExtend, errnoOf(err))
	}
	return c
}

func (t *TDX) probeBootLog() Check {
	c := Check{Name: "boot log", Path: t.bootLog()}
	log, err := t.BootLog()
	if err != nil {
		e := NewError(OpBootLog, c.Path, err)
		c.Found, c.Advice = e.Err.Error(), e.Advice
		return c
	}
	c.OK, c.Found = true, fmt.Sprintf("%d bytes", len(log))
	return c
}

// probeQGS connects to the host's service, where one is configured.
func (t *TDX) probeQGS(ctx context.Context) Check {
	c := Check{Name: "QGS by vsock", Path: t.attestConf()}
	conf, err := t.qgsConf()
	if err != nil {
		e := NewError(OpQuote, c.Path, err)
		c.Found, c.Advice = e.Err.Error(), e.Advice
		return c
	}
	c.OK, c.Found = true, unneeded
	if conf.port != 0 {
		c = t.probePort(ctx, c, conf.port)
	}
	if len(conf.passed) > 0 {
		c.Found += "; passed over: " + strings.Join(conf.passed, "; ")
	}
	return c
}

func (t *TDX) probePort(ctx context.Context, c Check, port uint32) Check {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := t.dial(ctx, port)
	if err != nil {
		c.OK, c.Found = false, fmt.Sprintf("port %d does not answer: %v", port, err)
		c.Advice = "see that the host runs QGS with vsock, or remove the port and use configfs-tsm"
		return c
	}
	conn.Close()
	c.Found = fmt.Sprintf("port %d", port)
	return c
}

func errnoOf(err error) syscall.Errno {
	errno, _ := errors.AsType[syscall.Errno](err)
	return errno
}

// noQuote and noRegisters are the errors where no interface is there.

func (t *TDX) noQuote() error {
	c := t.probeTSM()
	return t.unavailable(OpQuote, c)
}

func (t *TDX) noRegisters() error {
	c := t.probeDevice()
	if t.exists(t.oldDevice()) {
		c.Found += fmt.Sprintf(", but the older %s is there", t.oldDevice())
		c.Advice = "its interface is that of kernels before 6.2: use a newer kernel"
	}
	return t.unavailable(OpRegisters, c)
}

func (t *TDX) unavailable(op string, c Check) error {
	return &Error{Op: op, Path: c.Path, Errno: syscall.ENOENT, Err: fmt.Errorf("%w: %s", ErrUnsupported, c.Found), Advice: c.Advice}
}

func (t *TDX) needs616() string {
	kernel := t.kernel()
	var major, minor int
	if n, _ := fmt.Sscanf(kernel, "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 16) {
		return fmt.Sprintf("Linux %s can't extend registers from user space: use 6.16 or newer, or set anchor = \"report-data\"", kernel)
	}
	return "the kernel could, but the module tdx_guest does not show them: " + needsTDX
}
