package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// chainLength is how many certificates a quote carries: PCK, platform CA, root.
const chainLength = 3

// parseChain reads the PEM of a quote's chain. One zero byte may end it, as
// Intel's library writes it.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	var again []byte
	text = bytes.TrimSuffix(text, []byte{0})
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil && len(text) > 0 && text[0] == 0x30 {
			return nil, errors.New("quote's certificate chain is DER, as Intel's old sample has it: it must be PEM")
		}
		if block == nil {
			return nil, fmt.Errorf("quote's certificate chain is no PEM behind %d certificates", len(chain))
		}
		if len(chain) == chainLength {
			return nil, fmt.Errorf("quote's certificate chain holds more than %d certificates", chainLength)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("quote's certificate chain holds a PEM block %q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the quote's chain: %w", len(chain), err)
		}
		chain = append(chain, c)
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(chain) != chainLength {
		return nil, fmt.Errorf("quote's certificate chain has %d certificates, not %d", len(chain), chainLength)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("PEM of the quote's certificate chain doesn't re-encode to itself")
	}
	return chain, nil
}
