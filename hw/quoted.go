package hw

import "fmt"

// QuoteRegisters reads the registers out of a quote (v4 and v5, TDX 1.0 and
// 1.5 bodies). It checks no signature: the quote is this machine's own.
func QuoteRegisters(quote []byte) (Registers, error) {
	_, registers, _, err := cutQuote(quote)
	if err != nil {
		return Registers{}, fmt.Errorf("quote: %w", err)
	}
	return registers, nil
}
