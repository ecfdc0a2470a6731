package hw_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/hw"
)

func TestRegisters(t *testing.T) {
	for name, missing := range map[string][]string{
		"by TDREPORT": nil,
		"by quote":    {"dev/tdx_guest"},
		"by sysfs":    {"dev/tdx_guest", "sys/kernel"},
	} {
		k := newKernel(t)
		k.remove(missing...)
		tdx := k.tdx()
		if err := tdx.Extend(context.Background(), hw.Digest{1}); err != nil {
			t.Fatal(err)
		}
		want, _ := k.machine.Registers(context.Background())
		if got, err := tdx.Registers(context.Background()); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
		if quotes := k.made; (quotes == 1) != (name == "by quote") {
			t.Errorf("%s: %d quotes", name, quotes)
		}
	}
}

// TDREPORT shows an extend made elsewhere in the kernel, and sysfs does not.
func TestStaleCache(t *testing.T) {
	k := newKernel(t)
	before, _ := k.machine.Registers(context.Background())
	if err := k.machine.Extend(context.Background(), hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	live, err := k.tdx().Registers(context.Background())
	if want, _ := k.machine.Registers(context.Background()); err != nil || live != want {
		t.Errorf("by TDREPORT: %v, %v", live, err)
	}
	k.remove("dev/tdx_guest", "sys/kernel")
	if cached, err := k.tdx().Registers(context.Background()); err != nil || cached != before {
		t.Errorf("by sysfs: %v, %v", cached, err)
	}
	if said := k.tdx().Probe(context.Background()).Registers; !strings.Contains(said, "stale") {
		t.Errorf("the report has %q", said)
	}
}

func TestErrorsOfTheDevice(t *testing.T) {
	k := newKernel(t)
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EIO, syscall.EBUSY, syscall.EINVAL} {
		k.tdReport = func(hw.ReportData) ([]byte, error) { return nil, errno }
		_, err := k.tdx().Registers(context.Background())
		if e, ok := errors.AsType[*hw.Error](err); !ok || e.Errno != errno || e.Advice == "" {
			t.Errorf("%v: %v", errno, err)
		}
	}
	k.tdReport = func(hw.ReportData) ([]byte, error) { return nil, syscall.ENOTTY }
	if _, err := k.tdx().Registers(context.Background()); err != nil || k.made != 1 {
		t.Errorf("a device without that ioctl: %v, %d quotes", err, k.made)
	}
	for _, answer := range [][]byte{nil, make([]byte, 1024), make([]byte, 1023)} {
		k.tdReport = func(hw.ReportData) ([]byte, error) { return answer, nil }
		if _, err := k.tdx().Registers(context.Background()); !errors.Is(err, hw.ErrMalformed) {
			t.Errorf("report of %d zero bytes: %v", len(answer), err)
		}
	}
}

func TestNoRegistersAtAll(t *testing.T) {
	k := newKernel(t)
	k.remove("dev/tdx_guest", "sys/kernel", "sys/devices")
	k.put("dev/tdx-guest", nil)
	_, err := k.tdx().Registers(context.Background())
	if !errors.Is(err, hw.ErrUnsupported) || !strings.Contains(err.Error(), "older") {
		t.Errorf("with an older device: %v", err)
	}
}

func TestExtend(t *testing.T) {
	k := newKernel(t)
	tdx := k.tdx()
	for i := range 3 {
		before, _ := tdx.Registers(context.Background())
		if err := tdx.Extend(context.Background(), hw.Digest{byte(i)}); err != nil {
			t.Fatal(err)
		}
		want := before
		want.RTMR[3] = before.RTMR[3].Extend(hw.Digest{byte(i)})
		if got, _ := tdx.Registers(context.Background()); got != want {
			t.Errorf("registers %v, want %v", got, want)
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	before, _ := tdx.Registers(context.Background())
	if err := tdx.Extend(done, hw.Digest{9}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, _ := tdx.Registers(context.Background()); got != before {
		t.Error("a call that was over before it began extended the register")
	}
}

func TestErrorsOfExtend(t *testing.T) {
	k := newKernel(t)
	for _, errno := range []syscall.Errno{syscall.EBUSY, syscall.EINTR, syscall.EIO, syscall.ENXIO, syscall.EINVAL, syscall.EACCES} {
		k.fail["write rtmr3"] = errno
		err := k.tdx().Extend(context.Background(), hw.Digest{})
		if e, ok := errors.AsType[*hw.Error](err); !ok || e.Op != hw.OpExtend || e.Errno != errno || e.Advice == "" {
			t.Errorf("%v: %v", errno, err)
		}
		if errors.Is(err, hw.ErrBusy) != (errno == syscall.EBUSY) || errors.Is(err, hw.ErrUnsupported) {
			t.Errorf("%v is misread", err)
		}
	}
}

func TestExtendBefore616(t *testing.T) {
	k := newKernel(t)
	k.remove("sys/devices")
	k.put("proc/sys/kernel/osrelease", []byte("6.12.48-deb13\n"))
	err := k.tdx().Extend(context.Background(), hw.Digest{})
	if !errors.Is(err, hw.ErrUnsupported) || !strings.Contains(err.Error(), "6.12.48-deb13") || !strings.Contains(err.Error(), "6.16") {
		t.Errorf("error %v", err)
	}
	k.put("proc/sys/kernel/osrelease", []byte("7.2.1\n"))
	err = k.tdx().Extend(context.Background(), hw.Digest{})
	if !errors.Is(err, hw.ErrUnsupported) || !strings.Contains(err.Error(), "modprobe tdx_guest") {
		t.Errorf("error %v", err)
	}
}

func TestBootLogAndID(t *testing.T) {
	k := newKernel(t)
	want, _ := k.machine.BootLog()
	if got, err := k.tdx().BootLog(); err != nil || string(got) != string(want) {
		t.Errorf("boot log of %d bytes: %v", len(got), err)
	}
	if id, err := k.tdx().BootID(); err != nil || id != "0b8d3a55-6a0e-4f5c-9d3a-0123456789ab" {
		t.Errorf("boot id %q: %v", id, err)
	}
	k.put("proc/sys/kernel/random/boot_id", []byte("nonsense\n"))
	if _, err := k.tdx().BootID(); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("nonsense for a boot id: %v", err)
	}
	k.remove("proc")
	if _, err := k.tdx().BootID(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no /proc: %v", err)
	}
	k.put("sys/firmware/acpi/tables/CCEL", make([]byte, 56))
	if _, err := k.tdx().BootLog(); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("log of something else: %v", err)
	}
	k.remove("sys/firmware/acpi/tables/CCEL")
	k.put("sys/firmware/acpi/tables/data/CCEL", nil)
	if _, err := k.tdx().BootLog(); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("empty log: %v", err)
	}
	k.put("sys/firmware/acpi/tables/data/CCEL", make([]byte, 4<<20+1))
	if _, err := k.tdx().BootLog(); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("log without end: %v", err)
	}
	k.remove("sys/firmware")
	if _, err := k.tdx().BootLog(); !errors.Is(err, hw.ErrUnsupported) {
		t.Errorf("no log: %v", err)
	}
}
