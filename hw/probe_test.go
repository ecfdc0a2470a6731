package hw_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/hw"
)

func TestProbeFindsAll(t *testing.T) {
	k := newKernel(t)
	r := k.tdx().Probe(context.Background())
	for _, c := range r.Checks {
		if !c.OK || c.Found == "" || c.Path == "" || c.Advice != "" {
			t.Errorf("%+v", c)
		}
	}
	if r.Kernel != "6.18.0-test" || !strings.Contains(r.Quote, "configfs") || !strings.Contains(r.Registers, "TDREPORT") || r.Extend == "" || r.BootLog == "" {
		t.Errorf("report %+v", r)
	}
	if k.made != 0 || k.left() != 0 {
		t.Error("a quote was made")
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	k.serveQGS(func(net.Conn, []byte) []byte { return nil })
	if r := k.tdx().Probe(context.Background()); !strings.Contains(r.Quote, "4050") {
		t.Errorf("with QGS: %q", r.Quote)
	}
}

// The report names each missing thing, with advice.
func TestProbeFindsWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*kernel)
		check  string
		advice string
		choice func(hw.Report) string
		want   string
	}{
		{"no TD", func(k *kernel) { k.put("proc/cpuinfo", []byte("flags : fpu xtdx_guest\n")) }, "processor", "cimad-sim", nil, ""},
		{"no module", func(k *kernel) { k.remove("dev/tdx_guest") }, "device", "modprobe tdx_guest", func(r hw.Report) string { return r.Registers }, "a quote for each reading: slow"},
		{"older device", func(k *kernel) { k.remove("dev/tdx_guest"); k.put("dev/tdx-guest", nil) }, "older device", "newer kernel", nil, ""},
		{"oldest device", func(k *kernel) { k.remove("dev/tdx_guest"); k.put("dev/tdx-attest", nil) }, "older device", "newer kernel", nil, ""},
		{"no permission", func(k *kernel) {
			k.tdReport = func(hw.ReportData) ([]byte, error) { return nil, syscall.EACCES }
		}, "device", "root", nil, ""},
		{"reports forbidden", func(k *kernel) { k.denied = "sys/kernel/config/tsm/report" }, "configfs-tsm", "root", nil, ""},
		{"registers forbidden", func(k *kernel) { k.denied = "sys/" + measurements + "/rtmr3:sha384" }, "measurement registers", "root", func(r hw.Report) string { return r.Extend }, ""},
		{"no configfs", func(k *kernel) { k.remove("sys/kernel/config") }, "configfs-tsm", "modprobe configfs", func(r hw.Report) string { return r.Quote }, ""},
		{"configfs not mounted", func(k *kernel) { k.remove("sys/kernel/config/tsm") }, "configfs-tsm", "mount -t configfs", nil, ""},
		{"no reports", func(k *kernel) { k.remove("sys/kernel/config/tsm"); k.dir("sys/kernel/config/other") }, "configfs-tsm", "modprobe tsm_report", nil, ""},
		{"old kernel", func(k *kernel) {
			k.remove("sys/devices")
			k.put("proc/sys/kernel/osrelease", []byte("6.1.0-53-amd64\n"))
		}, "measurement registers", "Linux 6.1.0-53-amd64 can't extend", func(r hw.Report) string { return r.Extend }, ""},
		{"no boot log", func(k *kernel) { k.remove("sys/firmware") }, "boot log", "firmware", func(r hw.Report) string { return r.BootLog }, ""},
		{"no QGS", func(k *kernel) { k.put("etc/tdx-attest.conf", []byte("port=1")) }, "QGS by vsock", "remove the port", func(r hw.Report) string { return r.Quote[:12] }, "configfs-tsm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKernel(t)
			test.change(k)
			r := k.tdx().Probe(context.Background())
			found := false
			for _, c := range r.Checks {
				if c.Name == test.check && !c.OK {
					found = true
					if !strings.Contains(c.Advice, test.advice) || c.Found == "" {
						t.Errorf("found %q, advice %q", c.Found, c.Advice)
					}
				}
			}
			if !found {
				t.Errorf("no word of it in %+v", r.Checks)
			}
			if test.choice != nil && test.choice(r) != test.want {
				t.Errorf("chosen: %q, want %q", test.choice(r), test.want)
			}
		})
	}
}

func TestProbeOfNothing(t *testing.T) {
	root := t.TempDir()
	tdx := hw.NewTDX(hw.TDXOptions{SysRoot: root, DevRoot: root, ProcRoot: root, EtcRoot: root})
	r := tdx.Probe(context.Background())
	if r.Quote+r.Registers+r.Extend+r.BootLog != "" || r.Kernel != "unknown" {
		t.Errorf("report %+v", r)
	}
	for _, c := range r.Checks {
		if c.OK != (c.Name == "QGS by vsock") || c.OK == (c.Advice != "") {
			t.Errorf("%+v", c)
		}
	}
	for _, err := range []error{
		func() error { _, err := tdx.Quote(context.Background(), hw.ReportData{}); return err }(),
		func() error { _, err := tdx.Registers(context.Background()); return err }(),
		tdx.Extend(context.Background(), hw.Digest{}),
	} {
		if e, ok := err.(*hw.Error); !ok || !e.Is(syscall.ENOENT) || e.Advice == "" {
			t.Errorf("error %v", err)
		}
	}
}

// The real file operations, on a real kernel outside a TD.
func TestRealDevice(t *testing.T) {
	k := newKernel(t)
	tdx := hw.NewTDX(hw.TDXOptions{SysRoot: k.path("sys"), DevRoot: k.path("dev"), ProcRoot: "/proc", EtcRoot: k.path("etc")})
	if id, err := tdx.BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id of this machine: %q, %v", id, err)
	}
	// A plain file has no such ioctl, and a plain directory makes no
	// attributes.
	if _, err := tdx.Registers(context.Background()); err == nil {
		t.Error("a plain file was accepted as the driver")
	}
	if _, err := tdx.Quote(context.Background(), hw.ReportData{}); err == nil {
		t.Error("a plain directory was accepted as configfs")
	}
	if err := tdx.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}
