package endorsed

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cima-project/cima/logs/logstest"
)

var now = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// authority is a root, and a signer below it.
type authority struct {
	roots  *x509.CertPool
	key    *rsa.PrivateKey
	signer []byte
	root   []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, mine := key(), key()
	certificate := func(name string, of, by *rsa.PrivateKey, parent *x509.Certificate) ([]byte, *x509.Certificate) {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), IsCA: parent == nil, BasicConstraintsValid: true}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &of.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return der, parsed
	}
	a := &authority{roots: x509.NewCertPool(), key: mine}
	var parent *x509.Certificate
	a.root, parent = certificate("root", root, root, nil)
	a.roots.AddCert(parent)
	a.signer, _ = certificate("signer", mine, root, parent)
	return a
}

// fields writes a message: numbers and bytes, by their fields.
func fields(list ...any) (b []byte) {
	for i := 0; i < len(list); i += 2 {
		number := protowire.Number(list[i].(int))
		switch v := list[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(v))
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
		}
	}
	return b
}

func mrtd(c byte) []byte { return bytes.Repeat([]byte{c}, 48) }

// golden is a measurement of two sizes of memory.
func (a *authority) golden() []any {
	tdx := fields(1, 7, 2, fields(1, 4, 3, mrtd('a')), 2, fields(1, 8, 2, 1, 3, mrtd('b')))
	return []any{1, fields(1, int(now.Unix())), 2, 99, 4, a.signer, 5, mrtd('f'), 6, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root}), 8, tdx}
}

func (a *authority) sign(t testing.TB, golden []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(golden)
	signature, err := rsa.SignPSS(rand.Reader, a.key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		t.Fatal(err)
	}
	return fields(1, golden, 2, signature)
}

func TestGoogle(t *testing.T) {
	a := newAuthority(t)
	g, err := ReadGoogle(a.sign(t, fields(a.golden()...)), a.roots, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Measurements) != 2 || g.Measurements[1] != (Measurement{8, true, [48]byte(mrtd('b'))}) || g.SVN != 7 || g.Change != 99 || !g.Signed.Equal(now) || g.Unknown != nil {
		t.Errorf("%+v", g)
	}
	more, err := ReadGoogle(a.sign(t, fields(append(a.golden(), 77, 1)...)), a.roots, now)
	if err != nil || len(more.Unknown) != 1 || more.Unknown[0] != 77 {
		t.Errorf("%+v, %v", more, err)
	}
}

func TestGoogleRefused(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	without := func(n int) []byte {
		var list []any
		for all := a.golden(); len(all) > 0; all = all[2:] {
			if all[0] != n {
				list = append(list, all[:2]...)
			}
		}
		return fields(list...)
	}
	with := func(n int, v any) []byte { return append(without(n), fields(n, v)...) }
	whole := a.sign(t, fields(a.golden()...))
	for _, c := range []struct {
		want string
		b    []byte
		a    *authority
		at   time.Time
	}{
		{"does not lead to the root", whole, other, now},
		{"does not lead to the root", whole, a, now.AddDate(2, 0, 0)},
		{"signature does not hold", fields(1, with(2, 98), 2, whole[len(whole)-256:]), a, now},
		{"a measurement and a signature", fields(1, without(0)), a, now},
		{"no firmware for TDs", a.sign(t, without(8)), a, now},
		{"built from", a.sign(t, without(2)), a, now},
		{"digest must have 48", a.sign(t, without(5)), a, now},
		{"no measurement", a.sign(t, with(8, fields(1, 1))), a, now},
		{"not all zero", a.sign(t, with(8, fields(2, fields(3, make([]byte, 48))))), a, now},
		{"48 bytes", a.sign(t, with(8, fields(2, fields(3, []byte("x"))))), a, now},
		{"field 5 is there twice", a.sign(t, append(without(0), fields(5, mrtd('g'))...)), a, now},
		{"must be a number", a.sign(t, with(2, []byte("x"))), a, now},
		{"must be bytes", a.sign(t, with(5, 1)), a, now},
		{"signer's certificate", a.sign(t, with(4, []byte("x"))), a, now},
		{"this era", a.sign(t, with(1, fields(1, 1<<50))), a, now},
		{"no launch endorsement", []byte{0xff}, a, now},
		{"at most", make([]byte, MaxEndorsement+1), a, now},
	} {
		if _, err := ReadGoogle(c.b, c.a.roots, c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

func FuzzGoogle(f *testing.F) {
	a := newAuthority(f)
	f.Add(a.sign(f, fields(a.golden()...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ReadGoogle(b, x509.NewCertPool(), now); err == nil {
			t.Error("nobody signed that")
		}
	})
}

func TestPublished(t *testing.T) {
	digest := func(c string) string { return `"` + strings.Repeat(c, 96) + `"` }
	good := `{"publisher":"us","hardware":{"m-1":{"mrtd":[` + digest("1") + `],"rtmr0":` + digest("2") + `}},"code":{"v1":{"rtmr1":` + digest("3") + `,"rtmr2":` + digest("4") + `,"line":"ro"}}}`
	p, err := ReadPublished([]byte(good))
	if err != nil || len(p.Hardware["m-1"].MRTD) != 1 || p.Code["v1"].Line != "ro" {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, change := range map[string][2]string{
		"no publisher": {`"us"`, `""`}, "unknown": {`"line"`, `"lines"`}, "zero": {digest("3"), digest("0")},
		"no rtmr0": {`,"rtmr0":` + digest("2"), ""}, "name": {`"m-1"`, `"../m"`}, "short": {digest("4"), `"44"`}, "no mrtd": {"[" + digest("1") + "]", "[]"},
	} {
		if p, err := ReadPublished([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func FuzzPublished(f *testing.F) {
	f.Add([]byte(`{"publisher":"us","code":{"v1":{"rtmr1":"11","rtmr2":"22"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		logstest.Bounded(t, 8*len(b), func() { ReadPublished(b) })
	})
}
