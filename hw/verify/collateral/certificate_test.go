package collateral

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/kds"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/snp/snptest"
)

// chipFixture is a cache in front of a fake of AMD's service that knows one chip, and a report of that
// chip's.
type chipFixture struct {
	amdFixture
	chip   *snptest.Chip
	report *snp.Report
	key    snp.Key
	path   string // of the certificate in the service
}

func newChip(t *testing.T) *chipFixture {
	t.Helper()
	chip := snptest.New(t, "Milan", false)
	f := &chipFixture{chip: chip}
	f.clock = snptest.From.AddDate(0, 6, 0)
	f.report, f.key = reportOf(t, chip)
	f.path = "/vcek/v1/Milan/" + f.key.Chip + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
	f.service = collateraltest.NewKDS(t, "Milan", f.clock)
	f.service.Chips = map[string][]byte{f.path: chip.Leaf.Raw}
	f.service.Chain = [][]byte{chip.Intermediate.Raw, chip.Root.Raw}
	server := httptest.NewServer(f.service)
	t.Cleanup(server.Close)
	f.Cache = &Cache{Dir: t.TempDir(), AMD: kds.Service{API: server.URL}, Roots: []*x509.Certificate{chip.Root},
		Warn: func(s string) { f.warned = append(f.warned, s) }, now: func() time.Time { return f.clock }}
	return f
}

func reportOf(t *testing.T, chip *snptest.Chip) (*snp.Report, snp.Key) {
	t.Helper()
	a, err := snp.Parse(chip.Report(t, [64]byte{1}), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a.Keys()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	return a.Report, keys[0]
}

// get asks for the certificate, and counts what the service is asked.
func (f *chipFixture) get(t *testing.T) (asked int64, err error) {
	t.Helper()
	before := f.service.Asked.Load()
	leaf, above, err := f.Certificate(t.Context(), f.report, f.key)
	if err == nil && (len(leaf) == 0 || len(above) == 0) {
		t.Errorf("%d and %d bytes", len(leaf), len(above))
	}
	return f.service.Asked.Load() - before, err
}

// A chip's certificate is asked for once in 30 days, and serves as long as it is in date.
func TestCertificateIsKept(t *testing.T) {
	f := newChip(t)
	for i, want := range []int64{2, 0, 0} { // certificate, and what stands above
		if asked, err := f.get(t); err != nil || asked != want {
			t.Errorf("%d: asked %d times, %v", i, asked, err)
		}
	}
	f.clock = f.clock.Add(29 * 24 * time.Hour)
	if asked, err := f.get(t); err != nil || asked != 0 {
		t.Errorf("29 days later: asked %d times, %v", asked, err)
	}
	f.clock = f.clock.Add(24 * time.Hour)
	if asked, err := f.get(t); err != nil || asked != 2 {
		t.Errorf("30 days later: asked %d times, %v", asked, err)
	}
	states, err := Kept(t.Context(), f.Dir, f.Roots, f.clock)
	if err != nil || len(states) != 1 || states[0].Document != "VCEK" || states[0].Of != f.key.String() || states[0].Word != Good || states[0].Whose() != "milan 0102030405060708… at 04000000000018db" {
		t.Errorf("%+v, %v", states, err)
	}

	// In a folder it is what snp.Dir reads.
	need := KeyNeed(f.report, f.key)
	body, chain, err := Held(f.Dir).Document(t.Context(), need)
	dir := t.TempDir()
	if err != nil || Export(dir, need, body, chain) != nil {
		t.Fatal(err)
	}
	leaf, above, err := snp.Dir(dir).Certificate(t.Context(), f.report, f.key)
	if err != nil || string(leaf) != string(body) || string(above) != string(chain) {
		t.Errorf("a folder of files: %v", err)
	}
	if states, err := Kept(t.Context(), dir, f.Roots, f.clock); err != nil || len(states) != 1 || states[0].Word != Good {
		t.Errorf("%+v, %v", states, err)
	}
	if s := StateOf(t.Context(), Files(t.TempDir()), need, f.Roots, f.clock); s.Word != Missing {
		t.Errorf("%+v", s)
	}

	// Its service is gone: it serves until its own end, and no longer.
	f.AMD = nil
	f.clock = snptest.Until
	if _, err := f.get(t); err != nil {
		t.Errorf("on its last day: %v", err)
	}
	f.clock = snptest.Until.Add(time.Second)
	if _, err := f.get(t); err == nil || !strings.Contains(err.Error(), "was good until 2033-01-01") {
		t.Errorf("behind its end: %v", err)
	}
}

// What is not this chip's certificate is kept nowhere, and beside a kept one changes nothing.
func TestCertificateOfAServiceThatFails(t *testing.T) {
	other, genoa := snptest.New(t, "Milan", false), snptest.New(t, "Genoa", false)
	answer := func(status int, text string) func(*testing.T, *chipFixture) {
		return func(_ *testing.T, f *chipFixture) {
			f.service.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(status)
				w.Write([]byte(text))
				return true
			})
		}
	}
	give := func(of *snptest.Chip) func(*testing.T, *chipFixture) {
		return func(_ *testing.T, f *chipFixture) {
			f.service.Chips[f.path], f.service.Chain = of.Leaf.Raw, [][]byte{of.Intermediate.Raw, of.Root.Raw}
		}
	}
	again := func(change func(*x509.Certificate)) func(*testing.T, *chipFixture) {
		return func(t *testing.T, f *chipFixture) { give(f.chip.Again(t, change))(t, f) }
	}
	for name, c := range map[string]struct {
		spoil func(*testing.T, *chipFixture)
		says  string
		asked int64 // with nothing kept, in six attempts
	}{
		"absent":             {answer(http.StatusServiceUnavailable, "no"), "503", 1},
		"too many questions": {answer(http.StatusTooManyRequests, ""), "429", 1},
		"wrong":              {answer(http.StatusOK, "nonsense"), "can't be used: bad", 2},
		"empty":              {answer(http.StatusOK, ""), "can't be used: bad", 2},
		"no such chip":       {func(_ *testing.T, f *chipFixture) { delete(f.service.Chips, f.path) }, "AMD's service knows no Milan chip", 6},
		"expired":            {again(func(c *x509.Certificate) { c.NotAfter = snptest.From.AddDate(0, 1, 0) }), "stale: its successor was due on 2026-02-01", 2},
		"of the future":      {again(func(c *x509.Certificate) { c.NotBefore = snptest.From.AddDate(1, 0, 0) }), "early: it is good from 2027-01-01", 2},
		"of another TCB": {again(func(c *x509.Certificate) {
			for i := range c.ExtraExtensions {
				if id := c.ExtraExtensions[i].Id; id[len(id)-1] == 3 && id[len(id)-2] == 3 { // the SNP firmware's
					c.ExtraExtensions[i].Value = []byte{2, 1, 25}
				}
			}
		}), "foreign: it is of milan 0102030405060708… at 04000000000019db, and must be of milan 0102030405060708… at 04000000000018db", 2},
		"of another chip": {give(snptest.New(t, "Milan", false, otherChip)), "foreign: it is of milan ff02030405060708…", 2},
		"of another line": {func(t *testing.T, f *chipFixture) {
			give(genoa)(t, f)
			f.Roots = append(f.Roots, genoa.Root)
		}, "foreign: it is of genoa", 2},
		"without what stands above it": {func(_ *testing.T, f *chipFixture) { f.service.Chain = nil }, "404", 2},
		"under another root": {func(t *testing.T, f *chipFixture) {
			give(other)(t, f)
			f.Roots = []*x509.Certificate{genoa.Root}
		}, "not trusted", 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newChip(t)
			c.spoil(t, f)
			if _, err := f.get(t); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("nothing kept: %v, must say %q", err, c.says)
			}
			for range 5 { // a service that fails is left alone
				if _, err := f.get(t); err == nil {
					t.Error("it is given after all")
				}
			}
			if n := f.service.Asked.Load(); n != c.asked {
				t.Errorf("asked %d times, must be %d", n, c.asked)
			}
			if states, err := Kept(t.Context(), f.Dir, f.Roots, f.clock); err != nil || len(states) != 0 {
				t.Errorf("kept: %+v, %v", states, err)
			}

			f = newChip(t)
			if _, err := f.get(t); err != nil {
				t.Fatal(err)
			}
			roots := f.Roots
			f.clock = f.clock.Add(30 * 24 * time.Hour)
			c.spoil(t, f)
			f.Roots = append(roots, f.Roots...)
			if _, err := f.get(t); err != nil || name != "under another root" && (len(f.warned) != 1 || !strings.Contains(f.warned[0], c.says)) {
				t.Errorf("beside a kept one: %v, warned %q; want %q", err, f.warned, c.says)
			}
		})
	}
}

// otherChip makes a leaf that of another chip.
func otherChip(c *x509.Certificate) {
	for i := range c.ExtraExtensions {
		if id := c.ExtraExtensions[i].Id; id[len(id)-1] == 4 && id[len(id)-2] == 1 {
			c.ExtraExtensions[i].Value = append([]byte{0xff}, c.ExtraExtensions[i].Value[1:]...)
		}
	}
}

// Whoever makes a report up, of a chip that he did not ask, leaves nothing behind: neither in the cache
// nor beside it.
func TestReportsThatAreMadeUp(t *testing.T) {
	f := newChip(t)
	files := func() (names []string) {
		all, err := os.ReadDir(f.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			names = append(names, file.Name())
		}
		return names
	}
	// Of a chip that AMD knows.
	stranger := snptest.New(t, "Milan", false)
	forged, key := reportOf(t, stranger)
	if key != f.key {
		t.Fatal("the two chips must have one id")
	}
	leaf, _, err := f.Certificate(t.Context(), forged, key)
	if err != nil || string(leaf) != string(f.chip.Leaf.Raw) {
		t.Errorf("an appraisal must get the chip's certificate: %v", err)
	}
	if _, err := f.Fetch(t.Context(), KeyNeed(forged, key)); err == nil || !strings.Contains(err.Error(), "its key did not sign the report") {
		t.Errorf("%v", err)
	}
	// Of chips that nobody knows.
	for i := range 20 {
		k := key
		k.TCB[0] = byte(i + 100)
		if _, _, err := f.Certificate(t.Context(), forged, k); !snp.Unknown(err) {
			t.Errorf("%v", err)
		}
	}
	if got := files(); len(got) != 1 || got[0] != "vcek-milan.lock" {
		t.Errorf("files are left: %q", got)
	}
	if asked, err := f.get(t); err != nil || asked != 2 { // and others are served
		t.Errorf("asked %d times, %v", asked, err)
	}
	// One pause is for all chips of a line, and what a killed writer left is swept whosever it was.
	left := filepath.Join(f.Dir, half+"vcek-"+key.String()+kept+"-123")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.service.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	before := f.service.Asked.Load()
	for i := range 20 {
		k := key
		k.TCB[0] = byte(i + 100)
		if _, _, err := f.Certificate(t.Context(), forged, k); err == nil || snp.Unknown(err) {
			t.Errorf("%v", err)
		}
	}
	if n := f.service.Asked.Load() - before; n != 1 {
		t.Errorf("asked %d times within the pause", n)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a killed writer's file: %v", err)
	}
	if got := files(); len(got) != 3 { // lock, pause, certificate
		t.Errorf("files are left: %q", got)
	}
}
