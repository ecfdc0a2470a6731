package collateral

import (
	"context"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/dcap"
)

// fixture is a cache in front of a fake service, and a clock.
type fixture struct {
	*Cache
	service *collateraltest.Service
	warned  []string
	clock   time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := &fixture{service: collateraltest.New(t, now), clock: now}
	server := httptest.NewServer(f.service)
	t.Cleanup(server.Close)
	f.Cache = &Cache{Dir: t.TempDir(), From: dcap.PCS{API: server.URL}, Roots: []*x509.Certificate{f.service.Root},
		Warn: func(s string) { f.warned = append(f.warned, s) }, now: func() time.Time { return f.clock }}
	return f
}

func (f *fixture) get(t *testing.T, doc dcap.Document) error {
	t.Helper()
	body, chain, err := f.Get(t.Context(), doc, of(doc))
	if err == nil && (len(body) == 0 || (len(chain) == 0) != (doc == dcap.RootCRL)) {
		t.Errorf("%s: %d bytes, chain of %d", doc, len(body), len(chain))
	}
	return err
}

func of(doc dcap.Document) string {
	return map[dcap.Document]string{dcap.TCBInfo: collateraltest.FMSPC, dcap.PCKCRL: "platform"}[doc]
}

// TestMain: no goroutine is left.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

var all = []dcap.Document{dcap.TCBInfo, dcap.QEIdentity, dcap.PCKCRL, dcap.RootCRL}

func TestAskedOnceADay(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		for _, doc := range all {
			if err := f.get(t, doc); err != nil {
				t.Fatal(doc, err)
			}
		}
	}
	if n := f.service.Asked.Load(); n != 4 {
		t.Errorf("the service was asked %d times for 4 documents", n)
	}
	f.clock = f.clock.Add(askAfter)
	if err := f.get(t, dcap.TCBInfo); err != nil || f.service.Asked.Load() != 5 {
		t.Errorf("a day later: %v, asked %d times", err, f.service.Asked.Load())
	}
}

func TestServiceThatFails(t *testing.T) {
	garbage := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("TCB-Info-Issuer-Chain", "nonsense")
		w.Write([]byte("nonsense"))
		return true
	}
	refusal := func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return true
	}
	huge := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("TCB-Info-Issuer-Chain", "x")
		for range 5 << 10 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				break
			}
		}
		return true
	}
	for name, c := range map[string]struct {
		spoil func(*fixture)
		says  string
	}{
		"absent":                  {func(f *fixture) { f.service.SetBefore(refusal) }, "503"},
		"wrong":                   {func(f *fixture) { f.service.SetBefore(garbage) }, "can't be used: bad"},
		"without end":             {func(f *fixture) { f.service.SetBefore(huge) }, "more than"},
		"expired":                 {func(f *fixture) { f.service.Until = f.clock.Add(-time.Minute) }, "stale: its successor was due on 2026-12-01"},
		"of the future":           {func(f *fixture) { f.service.Issued = f.clock.Add(time.Hour) }, "early: it is good from 2026-12-01"},
		"older than what is kept": {func(f *fixture) { f.service.Issued = f.service.Issued.Add(-time.Hour) }, "older: it was issued on"},
		"of another platform":     {func(f *fixture) { f.service.Kind = "00806f050000" }, "foreign: it is of 00806f050000, and must be of b0c06f000000"},
		"of another root":         {func(f *fixture) { f.Roots = nil }, "its signer is not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if name != "of another root" && f.get(t, dcap.TCBInfo) != nil {
				t.Fatal("the first document")
			}
			f.clock = f.clock.Add(askAfter)
			c.spoil(f)
			before := f.service.Asked.Load()
			err := f.get(t, dcap.TCBInfo)
			kept := name != "of another root"
			switch {
			case kept && (err != nil || len(f.warned) != 1 || !strings.Contains(f.warned[0], c.says)):
				t.Errorf("with a kept document: %v, warned %q; want %q", err, f.warned, c.says)
			case !kept && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("without: %v; want %q", err, c.says)
			}
			for range 5 { // a service that fails is left alone
				f.get(t, dcap.TCBInfo)
			}
			if n := f.service.Asked.Load() - before; n != 1 {
				t.Errorf("asked %d times within the pause", n)
			}
			f.clock = f.clock.AddDate(0, 0, 31)
			if err := f.get(t, dcap.TCBInfo); err == nil {
				t.Error("a document that is out of date was given")
			}
		})
	}
}

// TestPauseGrows: the service is asked after 10, 20, 40 … seconds, and at last once an hour.
func TestPauseGrows(t *testing.T) {
	f := newFixture(t)
	f.service.SetBefore(func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return true
	})
	for range 24 * 60 { // a day, each minute
		if err := f.get(t, dcap.QEIdentity); err == nil {
			t.Fatal("no error")
		}
		f.clock = f.clock.Add(time.Minute)
	}
	if n := f.service.Asked.Load(); n < 24 || n > 40 {
		t.Errorf("asked %d times in a day", n)
	}
	f.service.SetBefore(nil)
	f.clock = f.clock.Add(longPause)
	if err := f.get(t, dcap.QEIdentity); err != nil {
		t.Error(err)
	}
	if p := f.readPause(Need{Kind: qeIdentity}); p.Failures != 0 {
		t.Error("a success leaves a pause")
	}
}

func TestSlowService(t *testing.T) {
	f := newFixture(t)
	if err := f.get(t, dcap.TCBInfo); err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(askAfter)
	ctx, cancel := context.WithCancel(t.Context())
	f.From = hangs{cancel}
	_, _, err := f.Get(ctx, dcap.TCBInfo, collateraltest.FMSPC)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("whoever waits must be able to stop: %v", err)
	}
	if p := f.readPause(Need{Kind: tcbInfo, Of: collateraltest.FMSPC}); p.Failures != 0 {
		t.Error("that a caller stops is no failure of the service")
	}
}

// hangs is a service that answers nobody.
type hangs struct{ begun func() }

func (h hangs) Get(ctx context.Context, _ dcap.Document, _ string) (body, chain []byte, err error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, nil, errors.New("nothing bounds the wait next to a kept document")
	}
	h.begun()
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

// TestTwoAtOneCache: processes that want a document at once ask the service once.
func TestTwoAtOneCache(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	for range 16 {
		other := &Cache{Dir: f.Dir, From: f.From, Roots: f.Roots, now: f.now}
		group.Go(func() {
			if _, _, err := other.Get(t.Context(), dcap.TCBInfo, collateraltest.FMSPC); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := f.service.Asked.Load(); n != 1 {
		t.Errorf("the service was asked %d times", n)
	}
}

// TestKilledWriter: whatever a writer leaves behind, the next one gets a whole document.
func TestKilledWriter(t *testing.T) {
	f := newFixture(t)
	if err := f.get(t, dcap.TCBInfo); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.Dir, Need{Kind: tcbInfo, Of: collateraltest.FMSPC}.name()+kept)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(f.Dir, half+Need{Kind: tcbInfo, Of: collateraltest.FMSPC}.name()+kept+"-123")
	others := filepath.Join(f.Dir, half+Need{Kind: qeIdentity}.name()+kept+"-123") // somebody may be writing it
	for _, path := range []string{left, others} {
		if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.get(t, dcap.TCBInfo); err != nil || f.service.Asked.Load() != 1 {
		t.Errorf("beside a half file: %v, asked %d times", err, f.service.Asked.Load())
	}
	f.clock = f.clock.Add(askAfter)
	if err := f.get(t, dcap.TCBInfo); err != nil || f.service.Asked.Load() != 2 {
		t.Errorf("a day later: %v, asked %d times", err, f.service.Asked.Load())
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half file of a killed writer is still there: %v", err)
	}
	if _, err := os.Stat(others); err != nil {
		t.Errorf("a file that another writes is gone: %v", err)
	}
	for _, text := range [][]byte{nil, whole[:len(whole)/2], []byte("{}"), []byte("null"), append(whole, 'x')} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		before := f.service.Asked.Load()
		if err := f.get(t, dcap.TCBInfo); err != nil || f.service.Asked.Load() != before+1 {
			t.Errorf("after %.20q: %v, asked %d times", text, err, f.service.Asked.Load()-before)
		}
		if again, err := os.ReadFile(path); err != nil || json.Unmarshal(again, &entry{}) != nil {
			t.Errorf("the file isn't whole: %v", err)
		}
	}
}

func TestWithoutService(t *testing.T) {
	f := newFixture(t)
	if err := f.get(t, dcap.TCBInfo); err != nil {
		t.Fatal(err)
	}
	f.From = nil
	f.clock = f.clock.AddDate(0, 0, 29)
	if err := f.get(t, dcap.TCBInfo); err != nil {
		t.Error(err)
	}
	if err := f.get(t, dcap.QEIdentity); err == nil || !strings.Contains(err.Error(), "not in the cache") {
		t.Error(err)
	}
	f.clock = f.clock.AddDate(0, 0, 2)
	if err := f.get(t, dcap.TCBInfo); err == nil || !strings.Contains(err.Error(), "was good until 2026-12-30") {
		t.Error(err)
	}
}

// TestNamesLeadNowhere: what a certificate says becomes no path.
func TestNamesLeadNowhere(t *testing.T) {
	for _, of := range []string{"../../etc/passwd", "a/b", "\x00", strings.Repeat("f", 5000)} {
		if got := (Need{Kind: tcbInfo, Of: of}).name(); strings.ContainsAny(got, "/.\x00") || len(got) > 40 {
			t.Errorf("%q becomes %q", of, got)
		}
	}
}
