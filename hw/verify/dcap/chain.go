package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// chainLength is how many certificates a quote carries: PCK, platform CA, root.
const chainLength = 3

// parseChain reads a quote's chain: PEM as an encoder writes it, with one zero byte behind
// it or none, as Intel's library and others write it; or DER, one certificate behind the
// other. No signature covers which of the three it is.
func parseChain(raw []byte) ([]*x509.Certificate, error) {
	read := readPEM
	if isDER(raw) {
		read = readDER
	}
	chain, err := read(raw)
	if err != nil {
		return nil, err
	}
	if len(chain) != chainLength {
		return nil, fmt.Errorf("quote's certificate chain has %d certificates, not %d", len(chain), chainLength)
	}
	return chain, nil
}

// isDER: a sequence begins so, and PEM is text.
func isDER(raw []byte) bool { return len(raw) > 0 && raw[0] == 0x30 }

func readPEM(text []byte) (chain []*x509.Certificate, err error) {
	var again []byte
	text = bytes.TrimSuffix(text, []byte{0})
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("quote's certificate chain is neither PEM nor DER behind %d certificates", len(chain))
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("quote's certificate chain holds a PEM block %q", block.Type)
		}
		if chain, err = appendCertificate(chain, block.Bytes); err != nil {
			return nil, err
		}
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("PEM of the quote's certificate chain doesn't re-encode to itself")
	}
	return chain, nil
}

func readDER(der []byte) (chain []*x509.Certificate, err error) {
	for len(der) > 0 {
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(der, &one)
		if err != nil {
			return nil, fmt.Errorf("quote's certificate chain is not DER behind %d certificates: %w", len(chain), err)
		}
		if chain, err = appendCertificate(chain, one.FullBytes); err != nil {
			return nil, err
		}
		der = rest
	}
	if len(chain) > 0 && bytes.Equal(chain[0].RawSubject, chain[0].RawIssuer) {
		slices.Reverse(chain) // Intel's sample begins with the root
	}
	return chain, nil
}

func appendCertificate(chain []*x509.Certificate, der []byte) ([]*x509.Certificate, error) {
	if len(chain) == chainLength {
		return nil, fmt.Errorf("quote's certificate chain holds more than %d certificates", chainLength)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate %d of the quote's chain: %w", len(chain), err)
	}
	return append(chain, c), nil
}

// asPEM is a chain in PEM, as the quote library reads it.
func asPEM(chain []*x509.Certificate) (text []byte) {
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
