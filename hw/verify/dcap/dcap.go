// Package dcap answers: whose quote is it?
//
// It reads TDX quotes, checks their signatures up to a root, and reads the
// collateral that says how the platform behind a quote stands: Intel's signed
// documents on patch levels, quoting enclaves and revoked certificates (Intel
// PCS API, version 4). It returns what it found. Which of that is good enough
// is the caller's to decide.
package dcap

import "encoding/hex"

// Finding is one value of a quote, held against what collateral or Intel say
// that it must be.
type Finding struct {
	What string // the value's name in Intel's specifications
	Want string // hex, or a decimal number
	Got  string // the same
	OK   bool   // Got is as Want, under a mask where there is one
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
