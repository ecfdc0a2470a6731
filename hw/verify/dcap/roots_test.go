package dcap

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

func TestIntelRoot(t *testing.T) {
	const published = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" // SHA-256 of IntelSGXRootCA.der
	sum := sha256.Sum256(IntelRoot().Raw)
	if got := hex.EncodeToString(sum[:]); got != published {
		t.Errorf("the built-in root has SHA-256 %s, not %s", got, published)
	}
}

// issuer issues the root of a simulated TD anew, as its authority would.
type issuer struct {
	t    *testing.T
	key  any
	root *x509.Certificate
	made int64
}

func (i *issuer) anew(from, until time.Time) *x509.Certificate {
	i.t.Helper()
	i.made++
	template := *i.root
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(i.made), from, until
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, i.root.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return c
}

// TestRootsOfOneAuthority: of roots with the same key and name, the one that is in date
// vouches for a quote, wherever it stands among them.
func TestRootsOfOneAuthority(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root")
	td := simulated(t, sim.Config{RootFile: file})
	raw, err := td.Quote(t.Context(), hw.ReportData{1})
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	of := &issuer{t: t, key: key, root: q.Root()}
	expired, future := of.anew(now.AddDate(-9, 0, 0), now.AddDate(-1, 0, 0)), of.anew(now.AddDate(1, 0, 0), now.AddDate(9, 0, 0))
	good, second := of.anew(now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0)), of.anew(now.AddDate(-1, 0, 0), now.AddDate(8, 0, 0))
	others, err := ParseRoots(simulated(t, sim.Config{}).RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	other := others[0]
	for name, c := range map[string]struct {
		roots []*x509.Certificate
		want  *x509.Certificate
		says  string // of Verify; empty: the quote is verified
	}{
		"expired first":     {[]*x509.Certificate{other, expired, good}, good, ""},
		"future first":      {[]*x509.Certificate{future, good, expired}, good, ""},
		"the first of two":  {[]*x509.Certificate{expired, second, good}, second, ""},
		"the quote's own":   {[]*x509.Certificate{expired, q.Root()}, q.Root(), ""},
		"none in date":      {[]*x509.Certificate{other, expired, future}, expired, "the trusted root is good from"},
		"another authority": {[]*x509.Certificate{other}, nil, "a root that is not trusted"},
		"none":              {nil, nil, "a root that is not trusted"},
	} {
		for _, at := range []time.Time{{}, now} {
			if got := q.TrustedRoot(c.roots, at); got != c.want {
				t.Errorf("%s: %v", name, got)
			}
			err := q.Verify(c.roots, at)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
	}
	if got := q.TrustedRoot([]*x509.Certificate{good, future}, now.AddDate(-2, 0, 0)); got != good {
		t.Error("at a time when none was in date:", got)
	}
}
