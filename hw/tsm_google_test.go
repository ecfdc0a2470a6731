package hw_test

import (
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

// googleFiles are the files of go-configfs-tsm's fake of the ABI: an
// independent check.
type googleFiles struct {
	client *faketsm.Client

	mu    sync.Mutex
	names map[string]string // the requested entry, and the one that was made
}

func (f *googleFiles) path(p string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for asked, made := range f.names {
		if p == asked || strings.HasPrefix(p, asked+"/") {
			return made + p[len(asked):]
		}
	}
	return p
}

func (f *googleFiles) Access(p string, _ bool) error {
	if strings.HasPrefix(p, configfsi.TsmPrefix) {
		return nil
	}
	return syscall.ENOENT
}

func (f *googleFiles) Read(p string, limit int) ([]byte, error) {
	if !strings.HasPrefix(p, configfsi.TsmPrefix) {
		return nil, syscall.ENOENT
	}
	if path.Base(p) == "provider" {
		return []byte("tdx_guest\n"), nil // the fake tells it only after a report
	}
	b, err := f.client.ReadFile(f.path(p))
	if len(b) > limit {
		return nil, syscall.EFBIG
	}
	return b, err
}

func (f *googleFiles) Write(p string, data []byte) (int, error) {
	return len(data), f.client.WriteFile(f.path(p), data)
}

func (f *googleFiles) List(string, int) ([]string, error) { return nil, nil }

func (f *googleFiles) Mkdir(p string) error {
	made, err := f.client.MkdirTemp(path.Dir(p), path.Base(p))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[p] = made
	return nil
}

func (f *googleFiles) Remove(p string) error { return f.client.RemoveAll(f.path(p)) }

// TestQuoteByGooglesFake makes many quotes at once through the fake, and leaves
// no entry behind.
func TestQuoteByGooglesFake(t *testing.T) {
	tdx, fake := byGooglesFake(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			data := hw.ReportData{byte(n)}
			quote, err := tdx.Quote(t.Context(), data)
			if err != nil {
				t.Errorf("quote %d: %v", n, err)
				return
			}
			if _, err := hw.QuoteRegisters(quote); err != nil {
				t.Errorf("quote %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if len(fake.Entries) != 0 {
		t.Errorf("%d entries are left", len(fake.Entries))
	}
}

// BenchmarkQuote is the cost of a quote without the hardware's part.
func BenchmarkQuote(b *testing.B) {
	tdx, _ := byGooglesFake(b)
	b.ReportAllocs()
	for b.Loop() {
		quote, err := tdx.Quote(b.Context(), hw.ReportData{1})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(quote)))
	}
}

// BenchmarkQuoteRegisters reads the registers of a quote.
func BenchmarkQuoteRegisters(b *testing.B) {
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		b.Fatal(err)
	}
	quote, err := machine.Quote(b.Context(), hw.ReportData{1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(quote)))
	for b.Loop() {
		if _, err := hw.QuoteRegisters(quote); err != nil {
			b.Fatal(err)
		}
	}
}

// byGooglesFake makes quotes through the fake of go-configfs-tsm.
func byGooglesFake(tb testing.TB) (*hw.TDX, *faketsm.ReportSubsystem) {
	tb.Helper()
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	fake := faketsm.Report611(0)
	fallback := fake.ReadAttr
	fake.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if attr == "outblob" {
			return machine.Quote(tb.Context(), hw.ReportData(e.InAttrs["inblob"].Value))
		}
		return fallback(e, attr)
	}
	files := &googleFiles{
		client: &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": fake}},
		names:  make(map[string]string),
	}
	return hw.NewTDX(hw.TDXOptions{Files: files}), fake
}
