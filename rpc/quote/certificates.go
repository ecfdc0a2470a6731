package quote

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// certificates reads a chain in PEM; some platforms end it with a zero byte.
func certificates(text []byte) (chain []*x509.Certificate, err error) {
	for text = bytes.TrimRight(text, "\x00\r\n"); len(text) > 0; {
		block, rest := pem.Decode(text)
		if block == nil || !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) { // Decode passes over other text
			return nil, errors.New("the certificates must be in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain), err)
		}
		chain, text = append(chain, c), bytes.TrimLeft(rest, "\r\n")
	}
	if len(chain) == 0 {
		return nil, errors.New("there are no certificates")
	}
	return chain, nil
}
