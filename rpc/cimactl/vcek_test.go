package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/rpc"
)

// uncertified is evidence of an SNP guest whose host gave no certificates, in files, and a service that
// knows its chip.
type uncertified struct {
	dir     string
	nonce   string
	service *collateraltest.KDS
	url     string
	path    string // of the chip's certificate in the service
}

func newUncertified(t *testing.T) *uncertified {
	t.Helper()
	u := &uncertified{dir: t.TempDir()}
	root := filepath.Join(u.dir, "root-key.pem")
	guest := verifytest.Boot(t, sim.Config{Platform: hw.TEESNP, RootFile: root})
	nonce := []byte("nonce of a test!")
	u.nonce = hex.EncodeToString(nonce)
	e, _, err := rpc.DecodeEvidence(guest.Evidence(guest.Launch("1", "one", "/bin/one"), nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	chain := e.Platform.Certificates
	e.Platform = rpc.Platform{}
	bundle, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	u.service = collateraltest.KDSOf(t, root, time.Now())
	u.path = fmt.Sprintf("/vcek/v1/Milan/%x?blSPL=04&teeSPL=00&snpSPL=22&ucodeSPL=213", e.Quote[0x1A0:0x1E0])
	u.service.Chips, u.service.Chain = map[string][]byte{u.path: chain[0]}, chain[1:]
	server := httptest.NewServer(u.service)
	t.Cleanup(server.Close)
	u.url = server.URL
	for name, text := range map[string][]byte{"evidence.json": bundle, "root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: u.service.Root.Raw})} {
		if err := os.WriteFile(filepath.Join(u.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// try runs a line, which must exit with code and say this, and keeps what it gets in a cache of that name.
func (u *uncertified) try(t *testing.T, cache string, code int, line string, says ...string) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(u.dir, cache))
	var out bytes.Buffer
	args := strings.Fields(strings.NewReplacer("@", u.dir+"/", "URL", u.url, "NONCE", u.nonce).Replace(line))
	if got := run(t.Context(), args, strings.NewReader(""), &out, &out); got != code {
		t.Errorf("%s: exit %d, want %d\n%s", line, got, code, &out)
	}
	for _, s := range says {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%s: no %q in\n%s", line, s, &out)
		}
	}
}

const (
	appraised = "verify @evidence.json --nonce NONCE --trust-root @root.pem --verbose"
	asking    = appraised + " --online --kds URL"
	vouched   = "the chain ends in"
)

// TestOnlineCertificate: a report that came without certificates is appraised by those that AMD's
// service gives, which are kept; without, it is not authentic, and the hint says what helps.
func TestOnlineCertificate(t *testing.T) {
	u := newUncertified(t)
	u.try(t, "none", 2, appraised, "came without the certificate of the key that signed it", "hint: its host gave none: --online gets it")
	u.try(t, "one", 4, asking, vouched, "its key is of the TCB and the chip that the report names", "no certificate of the chain is revoked")
	if n := u.service.Asked.Load(); n != 3 { // certificate, what stands above, list
		t.Errorf("the service was asked %d times", n)
	}
	u.try(t, "one", 4, asking, vouched)
	if n := u.service.Asked.Load(); n != 3 {
		t.Errorf("with all of it kept, the service was asked %d times", n)
	}
	const trusts = " --trust-root @root.pem"
	u.try(t, "one", 0, "collateral show"+trusts, "VCEK       milan ", "… at 04000000000016d5  good until", "VCEK list  milan")
	u.try(t, "one", 0, "collateral check @evidence.json"+trusts, "VCEK       milan", "VCEK list  milan")
	u.try(t, "two", 4, "collateral check @evidence.json"+trusts, "missing: vcek-milan-", "hint: `cimactl collateral fetch")
	u.try(t, "two", 0, "collateral fetch @evidence.json --to @files --kds URL"+trusts, "asking for VCEK milan", "VCEK       milan", "VCEK list  milan")
	u.try(t, "two", 4, appraised+" --collateral @files", vouched, "no certificate of the chain is revoked")
	u.try(t, "two", 1, appraised+" --collateral @empty", "vcek-milan-", "hint: cima-evidence(7), COLLATERAL")
	u.try(t, "three", 3, "verify @evidence.json --nonce NONCE --online --kds URL", "can't be used: bad: ") // under AMD's roots
}

// TestOnlineCertificateOfABadService: what verify --online says of a service of AMD's that is not as it should be,
// and how it exits, with nothing kept and beside a certificate that is kept. Its words are those of the table in
// cima-evidence(7), COLLATERAL.
func TestOnlineCertificateOfABadService(t *testing.T) {
	answer := func(status int, text string) func(*testing.T, *uncertified) {
		return func(_ *testing.T, u *uncertified) {
			u.service.SetBefore(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/crl") {
					return false
				}
				w.WriteHeader(status)
				w.Write([]byte(text))
				return true
			})
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, *uncertified)
		code  int // with nothing kept
		says  string
	}{
		{"slow", func(_ *testing.T, u *uncertified) {
			u.service.SetBefore(func(http.ResponseWriter, *http.Request) bool { time.Sleep(100 * time.Millisecond); return false })
		}, 4, vouched},
		{"refuses", answer(http.StatusServiceUnavailable, "no"), 3, "the service answered 503"},
		{"asked too often", answer(http.StatusTooManyRequests, ""), 3, "the service answered 429"},
		{"something else", answer(http.StatusOK, "nonsense"), 3, "can't be used: bad: "},
		{"unknown chip", func(_ *testing.T, u *uncertified) { clear(u.service.Chips) }, 3, "AMD's service knows no Milan chip"},
		{"another chip's", func(t *testing.T, u *uncertified) {
			other := newUncertified(t) // of another root: what the cache is told is the certificate's word, so both are trusted
			u.service.Chips[u.path], u.service.Chain = other.service.Chips[other.path], other.service.Chain
			root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.service.Root.Raw})
			old, err := os.ReadFile(filepath.Join(u.dir, "root.pem"))
			if err == nil {
				err = os.WriteFile(filepath.Join(u.dir, "root.pem"), append(old, root...), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 3, "foreign: it is of milan "},
		{"absent", func(_ *testing.T, u *uncertified) { u.url = "http://127.0.0.1:1" }, 3, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUncertified(t)
			u.try(t, "kept", 4, asking, vouched)
			c.spoil(t, u)
			u.try(t, "nothing", c.code, asking, c.says)
			if c.code == 3 {
				u.try(t, "again", 3, asking, "hint: ")
			}
			u.try(t, "kept", 4, asking, vouched)
		})
	}
}

// A certificate that has ended is no certificate, wherever it comes from.
func TestExpiredCertificate(t *testing.T) {
	u := newUncertified(t)
	u.try(t, "one", 0, "collateral fetch @evidence.json --to @files --kds URL --trust-root @root.pem")
	leaf, err := x509.ParseCertificate(u.service.Chips[u.path])
	if err != nil {
		t.Fatal(err)
	}
	later := " --at " + leaf.NotAfter.Add(time.Hour).UTC().Format(time.RFC3339)
	u.try(t, "one", 4, "collateral check @evidence.json --collateral @files --trust-root @root.pem"+later, "stale: its successor was due on ")
	u.try(t, "one", 2, appraised+" --collateral @files"+later, "is good from", "hint: a certificate isn't of the time")
}
