package crl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

// authority is an issuer with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte{1},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// list is a list by a, with one entry, and extensions of both.
func (a *authority) list(t testing.TB, ofList, ofEntry []pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: time.Unix(1, 0), NextUpdate: time.Unix(2, 0), ExtraExtensions: ofList,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(0xabc), RevocationTime: time.Unix(1, 0), ReasonCode: 1, ExtraExtensions: ofEntry}},
	}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func extension(critical bool, id ...int) []pkix.Extension {
	return []pkix.Extension{{Id: id, Critical: critical, Value: asn1.NullBytes}}
}

func TestRead(t *testing.T) {
	us, other := newAuthority(t, "us"), newAuthority(t, "other")
	impostor := newAuthority(t, "us")
	for _, c := range []struct {
		name    string
		der     []byte
		refused string // "": read
	}{
		{"number, key and reason", us.list(t, nil, nil), ""},
		{"one that need not be understood", us.list(t, extension(false, 1, 2, 3), extension(false, 1, 2, 3)), ""},
		{"one that must be understood", us.list(t, extension(true, 1, 2, 3), nil), "the list has the extension 1.2.3,"},
		{"an entry with one that must be", us.list(t, nil, extension(true, 1, 2, 3)), "the list's entry abc has the extension 1.2.3,"},
		{"a distribution point", us.list(t, extension(true, 2, 5, 29, 28), nil), "the list has the extension 2.5.29.28,"},
		{"a distribution point that claims not to matter", us.list(t, extension(false, 2, 5, 29, 28), nil), "2.5.29.28"},
		{"what changed since another list", us.list(t, extension(false, 2, 5, 29, 27), nil), "2.5.29.27"},
		{"another issuer's entry", us.list(t, nil, extension(false, 2, 5, 29, 29)), "2.5.29.29"},
		{"by somebody else", other.list(t, nil, nil), "the list is by CN=other, not by CN=us"},
		{"by another with that name", impostor.list(t, nil, nil), "the list's signature doesn't hold"},
		{"no list", []byte("x"), "x509:"},
	} {
		list, err := Read(c.der, us.cert)
		switch {
		case c.refused == "" && (err != nil || len(list.RevokedCertificateEntries) != 1):
			t.Errorf("%s: %v, %v", c.name, list, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.refused)
		}
	}
}

// A list without the date of the next one is written by hand: package x509 makes none.
func TestNoNextUpdate(t *testing.T) {
	us := newAuthority(t, "us")
	var whole struct {
		List struct {
			Raw     asn1.RawContent
			Version int
			By      asn1.RawValue
			Issuer  asn1.RawValue
			This    time.Time
			Next    time.Time
			Revoked asn1.RawValue
			Rest    asn1.RawValue `asn1:"tag:0"`
		}
		By        asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(us.list(t, nil, nil), &whole); err != nil {
		t.Fatal(err)
	}
	l := whole.List
	signed, err := asn1.Marshal(struct {
		Version    int
		By, Issuer asn1.RawValue
		This       time.Time
		Revoked    asn1.RawValue
		Rest       asn1.RawValue
	}{l.Version, l.By, l.Issuer, l.This, l.Revoked, l.Rest})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(signed)
	signature, err := us.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		List, By  asn1.RawValue
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: signed}, whole.By, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(der, us.cert); err == nil || !strings.Contains(err.Error(), "when the next one is due") {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	us := newAuthority(f, "us")
	f.Add(us.list(f, nil, nil))
	f.Add(us.list(f, extension(true, 2, 5, 29, 28), extension(false, 1, 2, 3)))
	f.Fuzz(func(t *testing.T, der []byte) {
		if list, err := Read(der, us.cert); err == nil && list.CheckSignatureFrom(us.cert) != nil {
			t.Error("nobody signed it")
		}
	})
}
