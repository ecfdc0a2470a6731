package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/verifytest"
)

var whole = flag.Bool("whole", false, "the sizes that figures are taken at: 200 kills, 100,000 appraisals")

// appraisal is evidence of a container, in files, a policy that it meets where the platform
// is UpToDate, and a service that knows the platform.
type appraisal struct {
	dir     string
	nonce   string
	td      *verifytest.TD
	id      string
	service *collateraltest.Service
	server  *httptest.Server
	url     string
}

func newAppraisal(t *testing.T) *appraisal {
	t.Helper()
	a := &appraisal{dir: t.TempDir(), td: verifytest.Boot(t, sim.Config{})}
	a.id = a.td.Launch("1", "one", "/bin/one")
	nonce := []byte("nonce of a test!")
	a.nonce = hex.EncodeToString(nonce)
	bundle := a.td.Evidence(a.id, nonce, nil)
	policy, _ := a.td.Policy(a.td.Appraise(bundle, nonce, nil))
	a.service = collateraltest.Of(t, a.td.Machine(), time.Now())
	a.server = httptest.NewServer(a.service)
	t.Cleanup(a.server.Close)
	a.url = a.server.URL
	a.write(t, "evidence.json", bundle)
	a.write(t, "policy.toml", bytes.Replace(policy, []byte(`"collateral",`), nil, 1))
	a.write(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.service.Root.Raw}))
	return a
}

func (a *appraisal) path(name string) string { return filepath.Join(a.dir, name) }

func (a *appraisal) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(a.path(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// online are the arguments that appraise the evidence with collateral of the service at url.
func (a *appraisal) online(url string) []string {
	return []string{"verify", a.path("evidence.json"), "--nonce", a.nonce, "--policy", a.path("policy.toml"),
		"--trust-root", a.path("root.pem"), "--online", "--pccs", url}
}

// aDayOld makes a document of the cache one that the service is asked about again.
func (a *appraisal) aDayOld(t *testing.T, cache, document string) {
	t.Helper()
	path := filepath.Join(cache, "cima", "collateral", document+".kept")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const fetched = `"fetched":"`
	before, behind, ok := strings.Cut(string(text), fetched)
	if !ok {
		t.Fatalf("no %s in %.100q", fetched, text)
	}
	// The form's time is in UTC, as RFC 3339 writes it.
	end := strings.IndexByte(behind, '"')
	text = []byte(before + fetched + time.Now().UTC().Add(-25*time.Hour).Format(time.RFC3339) + behind[end:])
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOnline: what cimactl verify --online says of a service that is not as it should be,
// and how it exits, with nothing kept and beside a document that is kept. Its words are those of
// the table in cima-evidence(7), COLLATERAL.
func TestOnline(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "man", "cima-evidence.7.md"))
	if err != nil {
		t.Fatal(err)
	}
	manual := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "*", "")), " ")
	answer := func(status int, text string) func(*collateraltest.Service) {
		return func(s *collateraltest.Service) {
			s.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("TCB-Info-Issuer-Chain", "nonsense")
				w.WriteHeader(status)
				w.Write([]byte(text))
				return true
			})
		}
	}
	for _, c := range []struct {
		row   string // of the manual's table
		spoil func(*collateraltest.Service)
		code  int    // with nothing kept
		says  string // the words, with nothing kept and in the warning
	}{
		{"is slow", slow, 0, ""},
		{"is silent", neverAnswers, 3, "the service did not answer in time"},
		{"refuses", answer(http.StatusServiceUnavailable, "no"), 3, "the service answered 503"},
		{"answers with something else", answer(http.StatusOK, "nonsense"), 3, "can't be used: bad: "},
		{"is behind", func(s *collateraltest.Service) { s.Until = time.Now().Add(-time.Minute) }, 3, "stale: its successor was due on "},
		{"is ahead", func(s *collateraltest.Service) { s.Issued = time.Now().Add(time.Hour) }, 3, "early: it is good from "},
		{"answers of another platform", func(s *collateraltest.Service) { s.Kind = "00806f050000" }, 3, "foreign: it is of "},
		{"is absent", nil, 3, "connection refused"},
	} {
		t.Run(c.row, func(t *testing.T) {
			if _, row, ok := strings.Cut(manual, "| "+c.row); !ok || !strings.Contains(row, strings.TrimSpace(c.says)) {
				t.Errorf("the manual's table must have a row %q with %q", c.row, c.says)
			}
			a := newAppraisal(t)
			try := func(ctx context.Context, cache, url string) (int, string) {
				t.Setenv("XDG_CACHE_HOME", cache)
				var out bytes.Buffer
				return run(ctx, a.online(url), strings.NewReader(""), &out, &out), out.String()
			}
			kept := t.TempDir()
			if code, out := try(t.Context(), kept, a.url); code != 0 || !strings.Contains(out, "trusted") || a.service.Asked.Load() != 4 {
				t.Fatalf("a service as it should be: exit %d, asked %d times\n%s", code, a.service.Asked.Load(), out)
			}
			a.aDayOld(t, kept, "tcb-"+a.service.Kind)
			url := a.url
			if c.spoil == nil {
				url = "http://127.0.0.1:1"
			} else {
				c.spoil(a.service)
			}
			if c.row != "is silent" { // 30 s: TestSilentService of hw/verify/dcap waits for them
				code, out := try(t.Context(), t.TempDir(), url)
				if code != c.code || !strings.Contains(out, c.says) || c.code != 0 && !strings.Contains(out, "hint: ") {
					t.Errorf("nothing kept: exit %d, want %d with %q\n%s", code, c.code, c.says, out)
				}
			}
			code, out := try(t.Context(), kept, url)
			if code != 0 || !strings.Contains(out, c.says) || strings.Contains(out, "cimactl: warning: TCB info of ") != (c.says != "") {
				t.Errorf("beside a kept document: exit %d, want 0 with %q\n%s", code, c.says, out)
			}
		})
	}
}

// slow answers, but only when it was asked a while ago.
func slow(s *collateraltest.Service) {
	s.SetBefore(func(http.ResponseWriter, *http.Request) bool {
		time.Sleep(100 * time.Millisecond)
		return false
	})
}

// neverAnswers takes the question and never answers.
func neverAnswers(s *collateraltest.Service) {
	s.SetBefore(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
}
