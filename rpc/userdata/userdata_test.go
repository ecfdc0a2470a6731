package userdata

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"testing"
)

const point = `{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}`

// An object of one use is none of another, in whatever way it is spelled.
func TestUsesAreApart(t *testing.T) {
	sealed, err := Seal("age1pq1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseJWK([]byte(point))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := TEEPubkey(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadSeal(sealed); err != nil || got != "age1pq1" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ReadTEEPubkey(bound); err != nil || got != key {
		t.Errorf("%v, %v", got, err)
	}
	for _, other := range [][]byte{nil, {}, []byte("age1pq1"), []byte("{}"), []byte(`{"profile":"x"}`), bound} {
		if _, err := ReadSeal(other); !IsOther(err) {
			t.Errorf("seal: %q: %v", other, err)
		}
	}
	if _, err := ReadTEEPubkey(sealed); !IsOther(err) {
		t.Error(err)
	}
	for _, bad := range [][]byte{
		append(bytes.Clone(sealed), ' '),
		bytes.Replace(sealed, []byte(`"recipient"`), []byte(`"more":1,"recipient"`), 1),
		bytes.Replace(sealed, []byte(`"recipient":"age1pq1"`), []byte(`"recipient":1`), 1),
		[]byte(`{"profile":"https://github.com/cima-project/cima/seal/v1"}`),
	} {
		if _, err := ReadSeal(bad); err == nil || IsOther(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A key that no key broker takes, or that isn't public, is refused by a message of its own.
func TestParseJWK(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n := base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	big := `{"alg":"RSA-OAEP-256","e":"AQAB","kty":"RSA","n":"` + n + `"}`
	if _, err := ParseJWK([]byte(big)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ from, old, new, want string }{
		{point, `"kty"`, `"d":"AA","kty"`, "private key"},
		{point, `"kty"`, `"kid":"a","kty"`, "kid"},
		{point, "P-256", "P-384", "crv must be"},
		{point, "P-256", "P-521", "66 bytes"},
		{point, "ECDH-ES+A256KW", "ECDH-ES", "it must be"},
		{point, `"EC"`, `"OKP"`, "it must be"},
		{point, "axfR", "bxfR", "point of the curve"},
		{point, "wpY", "wpZ", "32 bytes"},         // bits that mean nothing
		{point, "axfR", `axf\nR`, "32 bytes"},     // Go's base64 skips line ends
		{point, `"x":"axfR`, `"x":"`, "32 bytes"}, // too short
		{big, "AQAB", "AQ", "e must be"},
		{big, "AQAB", "AAEAAQ", "e must be"},
		{big, n, n[:100], "2048 to 8192"},
		{big, n, strings.Repeat("_", 2000), "2048 to 8192"},
		{big, "RSA-OAEP-256", "RSA1_5", "it must be"},
		{big, `"kty"`, `"crv":"P-256","kty"`, "it must be"},
		{`[]`, "", "", "JSON object"},
	} {
		text := strings.Replace(c.from, c.old, c.new, 1)
		if _, err := ParseJWK([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.100s: %v, want %q", text, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	sealed, _ := Seal("age1pq1")
	key, _ := ParseJWK([]byte(point))
	bound, _ := TEEPubkey(key)
	f.Add(sealed)
	f.Add(bound)
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ReadSeal(data); err == nil {
			if again, err := Seal(r); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%q has another form", data)
			}
		}
		if k, err := ReadTEEPubkey(data); err == nil {
			if again, err := TEEPubkey(k); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%q has another form", data)
			}
		}
	})
}
