package collateral

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/kds"
	"github.com/cima-project/cima/hw/verify/snp"
)

// amdFixture is a cache in front of a fake of AMD's service, and a clock.
type amdFixture struct {
	*Cache
	service *collateraltest.KDS
	warned  []string
	clock   time.Time
}

func newAMD(t *testing.T) *amdFixture {
	t.Helper()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	f := &amdFixture{service: collateraltest.NewKDS(t, "Milan", now), clock: now}
	server := httptest.NewServer(f.service)
	t.Cleanup(server.Close)
	f.Cache = &Cache{Dir: t.TempDir(), AMD: kds.Service{API: server.URL}, Roots: []*x509.Certificate{f.service.Root},
		Warn: func(s string) { f.warned = append(f.warned, s) }, now: func() time.Time { return f.clock }}
	return f
}

// AMD's lists are kept as Intel's documents are: asked for once a day, each by itself.
func TestListsAreAskedOnceADay(t *testing.T) {
	f := newAMD(t)
	var paths []string
	f.service.SetBefore(func(_ http.ResponseWriter, r *http.Request) bool {
		paths = append(paths, r.URL.Path)
		return false
	})
	for range 3 {
		for _, vlek := range []bool{false, true} {
			if der, err := f.List(t.Context(), snp.Milan, vlek); err != nil || len(der) == 0 {
				t.Fatal(vlek, err)
			}
		}
	}
	if want := []string{"/vcek/v1/Milan/crl", "/vlek/v1/Milan/crl"}; !slices.Equal(paths, want) {
		t.Errorf("the service was asked for %q, must be for %q", paths, want)
	}
	f.clock = f.clock.Add(askAfter)
	if _, err := f.List(t.Context(), snp.Milan, false); err != nil || f.service.Asked.Load() != 3 {
		t.Errorf("a day later: %v, asked %d times", err, f.service.Asked.Load())
	}
	states, err := Kept(t.Context(), f.Dir, f.Roots, f.clock)
	if err != nil || len(states) != 2 || states[0].Document != "VCEK list" || states[1].Document != "VLEK list" || states[0].Of != "milan" || states[0].Word != Good {
		t.Errorf("%+v, %v", states, err)
	}
	dir := t.TempDir()
	body, _, err := Held(f.Dir).Document(t.Context(), ListNeed(snp.Milan, true))
	if err != nil || Export(dir, ListNeed(snp.Milan, true), body, nil) != nil {
		t.Fatal(err)
	}
	if der, err := snp.Dir(dir).List(t.Context(), snp.Milan, true); err != nil || string(der) != string(body) {
		t.Errorf("a folder of files: %v", err)
	}
	if states, err := Kept(t.Context(), dir, f.Roots, f.clock); err != nil || len(states) != 1 || states[0].Word != Good {
		t.Errorf("%+v, %v", states, err)
	}
	if s := StateOf(t.Context(), Files(dir), ListNeed(snp.Genoa, false), f.Roots, f.clock); s.Word != Missing {
		t.Errorf("%+v", s)
	}
	f.AMD = nil
	f.clock = f.clock.AddDate(0, 2, 0)
	if _, err := f.List(t.Context(), snp.Milan, false); err == nil || !strings.Contains(err.Error(), "was good until") {
		t.Errorf("without a service: %v", err)
	}
}

// A service that is not as it should be takes nothing away, and what it gives is kept nowhere.
func TestListsOfAServiceThatFails(t *testing.T) {
	answer := func(status int, text string) func(*amdFixture) {
		return func(f *amdFixture) {
			f.service.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(status)
				w.Write([]byte(text))
				return true
			})
		}
	}
	double := collateraltest.NewKDS(t, "Milan", time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC))
	other := collateraltest.NewKDS(t, "Genoa", time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC))
	for name, c := range map[string]struct {
		spoil func(*amdFixture)
		says  string
	}{
		"absent":                  {answer(http.StatusServiceUnavailable, "no"), "503"},
		"too many questions":      {answer(http.StatusTooManyRequests, ""), "429"},
		"wrong":                   {answer(http.StatusOK, "nonsense"), "can't be used: bad"},
		"empty":                   {answer(http.StatusOK, ""), "can't be used: bad"},
		"expired":                 {func(f *amdFixture) { f.service.Until = f.clock.Add(-time.Minute) }, "stale: its successor was due on 2026-12-01"},
		"of the future":           {func(f *amdFixture) { f.service.Issued = f.clock.Add(time.Hour) }, "early: it is good from 2026-12-01"},
		"older than what is kept": {func(f *amdFixture) { f.service.Issued = f.service.Issued.Add(-time.Hour) }, "older: it was issued on"},
		"of another root": {func(f *amdFixture) {
			f.service.SetBefore(func(w http.ResponseWriter, r *http.Request) bool {
				r.URL.Path = "/vcek/v1/Milan/crl"
				other.ServeHTTP(w, r)
				return true
			})
		}, "the list is by CN=ARK-Genoa"},
		"of a root that has the same name": {func(f *amdFixture) {
			f.service.SetBefore(func(w http.ResponseWriter, r *http.Request) bool {
				double.ServeHTTP(w, r)
				return true
			})
		}, "the list's signature doesn't hold"},
		"of another line": {func(f *amdFixture) {
			f.Roots = append(f.Roots, other.Root)
			f.service.SetBefore(func(w http.ResponseWriter, r *http.Request) bool {
				r.URL.Path = "/vcek/v1/Milan/crl"
				other.ServeHTTP(w, r)
				return true
			})
		}, "foreign: it is of genoa, and must be of milan"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, first := range []bool{true, false} {
				f := newAMD(t)
				if first {
					if _, err := f.List(t.Context(), snp.Milan, false); err != nil {
						t.Fatal(err)
					}
				}
				f.clock = f.clock.Add(askAfter)
				c.spoil(f)
				before := f.service.Asked.Load()
				_, err := f.List(t.Context(), snp.Milan, false)
				switch {
				case name == "older than what is kept" && !first:
					continue
				case first && (err != nil || len(f.warned) != 1 || !strings.Contains(f.warned[0], c.says)):
					t.Errorf("with a kept list: %v, warned %q; want %q", err, f.warned, c.says)
				case !first && (err == nil || !strings.Contains(err.Error(), c.says)):
					t.Errorf("without: %v; want %q", err, c.says)
				}
				for range 5 { // a service that fails is left alone
					f.List(t.Context(), snp.Milan, false)
				}
				if n := f.service.Asked.Load() - before; n != 1 {
					t.Errorf("asked %d times within the pause", n)
				}
				f.clock = f.clock.AddDate(0, 0, 31)
				if _, err := f.List(t.Context(), snp.Milan, false); err == nil {
					t.Error("a list that is out of date was given")
				}
			}
		})
	}
}

// A service that is slow is waited for only for a while beside a list in date, and whoever waits
// may stop.
func TestListsOfASlowService(t *testing.T) {
	f := newAMD(t)
	if _, err := f.List(t.Context(), snp.Milan, false); err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(askAfter)
	ctx, cancel := context.WithCancel(t.Context())
	f.AMD = hangingList{cancel}
	if _, err := f.List(ctx, snp.Milan, false); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever waits must be able to stop: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	f.AMD = hangingList{cancel}
	if _, _, err := f.Certificate(ctx, nil, snp.Key{Line: snp.Milan, Chip: strings.Repeat("00", 64)}); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever waits for a certificate must be able to stop: %v", err)
	}
}

type hangingList struct{ begun func() }

func (h hangingList) Certificate(ctx context.Context, _ *snp.Report, _ snp.Key) (leaf, above []byte, err error) {
	h.begun()
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func (h hangingList) List(ctx context.Context, _ snp.Line, _ bool) ([]byte, error) {
	_, _, err := hangs(h).Get(ctx, 0, "")
	return nil, err
}

// The names of kinds lead back to them, and Intel's are numbered as in dcap.
func TestNamesOfFiles(t *testing.T) {
	for _, n := range append(Needs("b0c06f000000", "platform"), ListNeed(snp.Turin, false), ListNeed(snp.Milan, true),
		KeyNeed(nil, snp.Key{Line: snp.Milan, Chip: strings.Repeat("0a", 64)}), KeyNeed(nil, snp.Key{Line: snp.Turin, Chip: "0102030405060708"})) {
		for _, file := range []string{n.name() + kept, n.file()} {
			if got, ok := parseName(file); !ok || got != n {
				t.Errorf("%s is %v, %v; must be %v", file, got, ok, n)
			}
		}
	}
	for _, file := range []string{"amd-vcek-.crl", "amd-vcek-rome.kept", "amd-vcek-milan", "amd-vlek-milan.der", "vcek-.der", "vcek-milan.kept", "vcek-milan-00-0000000000000000.der", "vcek-turin-0102030405060708-0000000000000000.crl", "tcb-.json", "root-crl", "qe-identity.json.chain"} {
		if got, ok := parseName(file); ok {
			t.Errorf("%s is %v", file, got)
		}
	}
}
