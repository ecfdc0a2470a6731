package hw_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kernel replaces the kernel's interfaces (Documentation/ABI/testing):
// configfs-tsm and the measurement registers. It is a tree of files, and a
// function answers where files can't. A simulated TD is the hardware behind it.
type kernel struct {
	t       *testing.T
	root    string
	machine *sim.Machine
	port    net.Listener // where QGS listens

	mu       sync.Mutex
	entries  map[string]*entry
	provider string
	fail     map[string]error    // by operation and attribute: "read outblob"
	denied   string              // a path that may not be touched
	blocked  string              // the signal mask of the thread that read a quote
	finish   chan struct{}       // quotes end when it is closed; nil: at once
	lapped   bool                // another writer advances the generation
	reshape  func([]byte) []byte // what the host changes in a quote
	inFlight int
	most     int // quotes in flight at once
	made     int
	tdReport func(data hw.ReportData) ([]byte, error)
}

type entry struct {
	in         []byte
	generation int
}

const tdGuest = "tdx_guest"

// newKernel is a kernel ≥ 6.16 in a TD, with all interfaces.
func newKernel(t *testing.T) *kernel {
	t.Helper()
	m, err := sim.Boot(sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, root: t.TempDir(), machine: m, entries: map[string]*entry{}, provider: tdGuest, fail: map[string]error{}}
	log, _ := m.BootLog()
	table := make([]byte, 56)
	copy(table, "CCEL")
	table[36] = 2
	k.put("sys/firmware/acpi/tables/data/CCEL", log)
	k.put("sys/firmware/acpi/tables/CCEL", table)
	k.put("proc/sys/kernel/random/boot_id", []byte("0b8d3a55-6a0e-4f5c-9d3a-0123456789ab\n"))
	k.put("proc/sys/kernel/osrelease", []byte("6.18.0-test\n"))
	k.put("proc/cpuinfo", []byte("processor\t: 0\nflags\t\t: fpu tdx_guest sse\n"))
	k.put("proc/1/stat", nil)
	k.put("dev/tdx_guest", nil)
	k.dir("sys/kernel/config/tsm/report")
	k.dir("etc")
	registers, _ := m.Registers(context.Background())
	k.put("sys/"+measurements+"/mrtd:sha384", registers.MRTD[:])
	for i, rtmr := range registers.RTMR {
		k.put(fmt.Sprintf("sys/%s/rtmr%d:sha384", measurements, i), rtmr[:])
	}
	k.tdReport = k.report
	return k
}

const measurements = "devices/virtual/misc/tdx_guest/measurements"

func (k *kernel) path(name string) string { return filepath.Join(k.root, name) }

func (k *kernel) dir(name string) {
	if err := os.MkdirAll(k.path(name), 0o755); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) put(name string, data []byte) {
	k.dir(filepath.Dir(name))
	if err := os.WriteFile(k.path(name), data, 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) remove(names ...string) {
	for _, name := range names {
		if err := os.RemoveAll(k.path(name)); err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *kernel) tdx() *hw.TDX {
	return hw.NewTDX(hw.TDXOptions{
		SysRoot: k.path("sys"), DevRoot: k.path("dev"), ProcRoot: k.path("proc"), EtcRoot: k.path("etc"),
		Files:    &files{hw.KernelFiles(), k},
		TDReport: func(_ string, data hw.ReportData) ([]byte, error) { return k.tdReport(data) },
		Dial: func(ctx context.Context, port uint32) (net.Conn, error) {
			if k.port == nil {
				return nil, syscall.ENODEV
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", k.port.Addr().String())
		},
	})
}

// report is a TDREPORT of the simulated TD.
func (k *kernel) report(data hw.ReportData) ([]byte, error) {
	now, err := k.machine.Registers(context.Background())
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1024)
	b[0] = 0x81
	copy(b[128:], data[:])
	copy(b[528:], now.MRTD[:])
	for i, rtmr := range now.RTMR {
		copy(b[720+48*i:], rtmr[:])
	}
	return b, nil
}

// untilAQuoteBegins is a context that ends once an entry is there.
func (k *kernel) untilAQuoteBegins(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for k.left() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	return ctx
}

// left are the entries that were not removed.
func (k *kernel) left() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.entries)
}
