package ear

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Public is a key that checks tokens: ES256, on P-256.
type Public struct{ key *ecdsa.PublicKey }

// errKey is the error of a key of another kind.
var errKey = errors.New("the key must be of the curve P-256: tokens are signed by ES256, which all readers know")

// NewKey makes a private key, as PKCS #8 in PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Parse reads a key in PEM: a private one (PKCS #8, or SEC 1 as openssl writes it), or a
// public one. The signer is nil for a public one.
func Parse(text []byte) (crypto.Signer, Public, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS": // which openssl writes before a key
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		default:
			err = fmt.Errorf("a key must be in PEM as PRIVATE KEY or PUBLIC KEY, without a passphrase, not as %q", block.Type)
		}
		if err != nil {
			return nil, Public{}, err
		}
		switch k := key.(type) {
		case *ecdsa.PrivateKey:
			if k.Curve == elliptic.P256() {
				return k, Public{&k.PublicKey}, nil
			}
		case *ecdsa.PublicKey:
			if k.Curve == elliptic.P256() {
				return nil, Public{k}, nil
			}
		}
		return nil, Public{}, errKey
	}
	return nil, Public{}, errors.New("a key must be in PEM: there is none")
}

// jwk is a public key (RFC 7517). Its members stand in the order in which a thumbprint
// hashes them (RFC 7638).
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y"`

	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	Use       string `json:"use,omitempty"`
}

func (p Public) jwk() (jwk, error) {
	point, err := p.key.Bytes()
	if err != nil {
		return jwk{}, err
	}
	k := jwk{Curve: "P-256", Type: "EC", X: b64(point[1:33]), Y: b64(point[33:])}
	text, err := json.Marshal(k)
	if err != nil {
		return jwk{}, err
	}
	sum := sha256.Sum256(text)
	k.ID, k.Algorithm, k.Use = b64(sum[:]), algorithm, "sig"
	return k, nil
}

// JWKS is the set of these keys, for readers of tokens. Each has its algorithm: OPA
// refuses the whole set where one has none.
func JWKS(keys ...Public) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, p := range keys {
		k, err := p.jwk()
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, k)
	}
	return json.Marshal(set)
}

const algorithm = "ES256"

// Sign makes a token (RFC 7519) of these claims. sign gets a SHA-256 and returns an
// ECDSA signature in ASN.1, as a crypto.Signer or a hardware module gives it. What it
// returns is checked with the public key before anybody else sees it.
func (p Public) Sign(claims []byte, sign func(digest []byte) ([]byte, error)) ([]byte, error) {
	k, err := p.jwk()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]string{"alg": algorithm, "kid": k.ID, "typ": "JWT"}, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	text := b64(header) + "." + b64(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := sign(digest[:])
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(p.key, digest[:], signature) {
		return nil, errors.New("the signature is not this key's: it must be ECDSA over the SHA-256, in ASN.1 (DER)")
	}
	var s struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &s); err != nil {
		return nil, err
	}
	fixed := make([]byte, 64)
	s.R.FillBytes(fixed[:32])
	s.S.FillBytes(fixed[32:])
	return []byte(text + "." + b64(fixed)), nil
}
