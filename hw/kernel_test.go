package hw_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kernel is a tree of files and, where files can't answer, what FACTS says of
// the kernel's interfaces: configfs-tsm and the measurement registers. Behind
// it is a simulated TD.
type kernel struct {
	t       *testing.T
	root    string
	machine *sim.Machine
	port    net.Listener // where QGS listens

	mu       sync.Mutex
	entries  map[string]*entry
	provider string
	fail     map[string]error // by operation and attribute: "read outblob"
	denied   string           // a path that may not be touched
	blocked  string           // the signal mask of the thread that read a quote
	delay    time.Duration
	lapped   bool                // another writer advances the generation
	reshape  func([]byte) []byte // what the host makes of a quote
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

// newKernel is a kernel ≥ 6.16 in a TD, with everything there.
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

// left are the entries that nobody removed.
func (k *kernel) left() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.entries)
}

// files is the boundary between package hw and that kernel.
type files struct {
	hw.Files
	k *kernel
}

// attribute says whether path lies in configfs, in which entry and file.
func (f *files) attribute(path string) (name, attr string, ok bool) {
	rest, ok := strings.CutPrefix(path, f.k.path("sys/kernel/config/tsm/report")+"/")
	name, attr, _ = strings.Cut(rest, "/")
	return name, attr, ok
}

func (f *files) Access(path string, write bool) error {
	if path == f.k.path(f.k.denied) {
		return syscall.EACCES
	}
	return f.Files.Access(path, write)
}

func (f *files) Mkdir(path string) error {
	name, _, _ := f.attribute(path)
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	if err := f.k.fail["mkdir"]; err != nil {
		return err
	}
	if f.k.provider == "" {
		return syscall.ENXIO
	}
	if f.k.entries[name] != nil {
		return syscall.EEXIST
	}
	f.k.entries[name] = &entry{}
	return nil
}

func (f *files) Remove(path string) error {
	name, _, _ := f.attribute(path)
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	if f.k.entries[name] == nil {
		return syscall.ENOENT
	}
	delete(f.k.entries, name)
	return nil
}

func (f *files) List(path string, limit int) ([]string, error) {
	if path != f.k.path("sys/kernel/config/tsm/report") {
		return f.Files.List(path, limit)
	}
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	var names []string
	for name := range f.k.entries {
		names = append(names, name)
	}
	return names, nil
}

func (f *files) Write(path string, data []byte) (int, error) {
	name, attr, ok := f.attribute(path)
	if !ok {
		return f.k.extend(f.Files, path, data)
	}
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	e := f.k.entries[name]
	if err := f.k.fail["write "+attr]; err != nil {
		return 0, err
	}
	if e == nil || attr != "inblob" {
		return 0, syscall.EACCES
	}
	e.in = append([]byte(nil), data...)
	e.generation++
	return len(data), nil
}

// extend is the write to rtmr3:sha384: 48 bytes, and the cache behind the file
// is refreshed only then.
func (k *kernel) extend(real hw.Files, path string, data []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fail["write rtmr3"]; err != nil {
		return 0, err
	}
	if err := real.Access(path, false); err != nil {
		return 0, err
	}
	if len(data) != 48 {
		return 0, syscall.EINVAL
	}
	if err := k.machine.Extend(context.Background(), hw.Digest(data)); err != nil {
		var e *hw.Error
		errors.As(err, &e)
		return 0, e.Errno
	}
	now, err := k.machine.Registers(context.Background())
	if err != nil {
		return 0, err
	}
	return real.Write(path, now.RTMR[3][:])
}

func (f *files) Read(path string, limit int) ([]byte, error) {
	name, attr, ok := f.attribute(path)
	if !ok {
		return f.Files.Read(path, limit)
	}
	f.k.mu.Lock()
	e := f.k.entries[name]
	err := f.k.fail["read "+attr]
	provider, lapped := f.k.provider, f.k.lapped
	f.k.mu.Unlock()
	switch {
	case e == nil:
		return nil, syscall.ENOENT
	case err != nil:
		return nil, err
	case attr == "provider":
		return []byte(provider + "\n"), nil
	case attr == "generation":
		return fmt.Appendf(nil, "%d\n", e.generation), nil
	case attr != "outblob":
		return nil, syscall.ENOENT
	case len(e.in) != 64:
		return nil, syscall.EINVAL
	}
	if lapped {
		e.generation++
	}
	raw, err := f.k.quote(hw.ReportData(e.in))
	if len(raw) > limit {
		return nil, syscall.EFBIG
	}
	return raw, err
}

// quote is the driver: it refuses a second quote while one is in flight.
func (k *kernel) quote(data hw.ReportData) ([]byte, error) {
	k.mu.Lock()
	k.inFlight++
	k.most = max(k.most, k.inFlight)
	busy, delay, reshape := k.inFlight > 1, k.delay, k.reshape
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.inFlight--
		k.made++
		k.mu.Unlock()
	}()
	if busy {
		return nil, syscall.EBUSY
	}
	registers, err := k.machine.Registers(context.Background())
	if err != nil {
		return nil, err
	}
	time.Sleep(delay)
	status, _ := os.ReadFile("/proc/thread-self/status")
	_, mask, _ := strings.Cut(string(status), "SigBlk:\t")
	k.mu.Lock()
	k.blocked, _, _ = strings.Cut(mask, "\n")
	k.mu.Unlock()
	raw, err := k.machine.Sign(registers, data)
	if reshape != nil {
		raw = reshape(raw)
	}
	return raw, err
}

// serveQGS is the host's service, until the test ends. answer makes the
// message that follows a request, without its length.
func (k *kernel) serveQGS(answer func(conn net.Conn, report []byte) []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	k.port = listener
	k.put("etc/tdx-attest.conf", []byte("# the host's QGS\nport = 4050\n"))
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				k.answerQGS(conn, answer)
			})
		}
	})
	k.t.Cleanup(func() {
		listener.Close()
		done.Wait()
	})
}

func (k *kernel) answerQGS(conn net.Conn, answer func(net.Conn, []byte) []byte) {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	request := make([]byte, 4+16+8+1024)
	for n := 0; n < len(request); {
		got, err := conn.Read(request[n:])
		if err != nil {
			return
		}
		n += got
	}
	le := binary.LittleEndian
	b := request[4:]
	if binary.BigEndian.Uint32(request) != 1048 || le.Uint16(b) != 1 || le.Uint32(b[4:]) != 0 || le.Uint32(b[8:]) != 1048 ||
		le.Uint32(b[12:]) != 0 || le.Uint32(b[16:]) != 1024 || le.Uint32(b[20:]) != 0 {
		k.t.Errorf("QGS request begins %x", request[:28])
	}
	message := answer(conn, b[24:])
	if message != nil {
		conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	}
}

// qgsAnswer is a GET_QUOTE_RESP.
func qgsAnswer(code uint32, id, quote []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, 1)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, uint32(24+len(id)+len(quote)))
	b = le.AppendUint32(b, code)
	b = le.AppendUint32(b, uint32(len(id)))
	b = le.AppendUint32(b, uint32(len(quote)))
	return append(append(b, id...), quote...)
}

// quoteReport is what QGS does with a TDREPORT.
func (k *kernel) quoteReport(report []byte) []byte {
	registers := hw.Registers{MRTD: hw.Digest(report[528:576])}
	for i := range registers.RTMR {
		registers.RTMR[i] = hw.Digest(report[720+48*i : 768+48*i])
	}
	quote, err := k.machine.Sign(registers, hw.ReportData(report[128:192]))
	if err != nil {
		k.t.Error(err)
	}
	return quote
}
