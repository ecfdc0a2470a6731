package hw

import (
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/logs"
)

// maxQuote bounds a quote, in bytes. Real ones have about 5 KiB, and no released
// kernel's buffer was above 32 KiB before tsm_report took 16 MiB.
const maxQuote = 128 << 10

// Layout of a quote (Intel TDX DCAP Quoting Library API, appendix A.3 and A.4).
const (
	quoteHeader   = 48
	quoteBody10   = 584 // TD report of TDX 1.0
	quoteBody15   = 648 // of TDX 1.5: that of 1.0 and 64 bytes more
	quoteBodyEx   = 885 // of TDX 1.5 "Ex": that of 1.5 and 237 bytes more
	bodyMRTD      = 136
	bodyRTMR      = 328
	bodyData      = 520
	teeTDX        = 0x81
	bodyTypeTDX10 = 2
	bodyTypeTDX15 = 3
	bodyTypeTDXEx = 4
)

// QuoteRegisters reads the registers out of a quote of this machine (version 4
// or 5, bodies of TDX 1.0, 1.5 and 1.5 Ex). It checks no signature. Its errors are
// ErrMalformed.
func QuoteRegisters(quote []byte) (Registers, error) {
	_, registers, _, err := cutQuote(quote)
	if err != nil {
		return Registers{}, fmt.Errorf("quote: %w", err)
	}
	return registers, nil
}

// TDXParts are the parts of a TD that has its module's registers to itself.
func TDXParts() Parts {
	return Parts{TEE: TEETDX, Anchor: logs.AnchorRTMR3, BootLog: BootLogCCEL}
}

// OpenTDX takes apart what a TD signed: it is the quote alone.
func OpenTDX(quote []byte) (Signed, error) {
	registers, err := QuoteRegisters(quote)
	return Signed{Quote: quote, Registers: registers}, err
}

// cutQuote checks the outer form of a quote of version 4 or 5, cuts off the bytes
// that hosts leave behind it, and reads it. It checks no signature: package
// hw/verify judges quotes.
func cutQuote(raw []byte) (quote []byte, registers Registers, data ReportData, err error) {
	body, at, err := quoteBody(raw)
	if err != nil {
		return nil, registers, data, err
	}
	if len(raw)-at < 4 {
		return nil, registers, data, fmt.Errorf("%w: quote of %d bytes ends before its signature", ErrMalformed, len(raw))
	}
	size := uint64(binary.LittleEndian.Uint32(raw[at:]))
	if at += 4; size == 0 || size > uint64(len(raw)-at) {
		return nil, registers, data, fmt.Errorf("%w: quote announces %d bytes of signature and has %d", ErrMalformed, size, len(raw)-at)
	}
	registers.MRTD = Digest(body[bodyMRTD:][:48])
	for i := range registers.RTMR {
		registers.RTMR[i] = Digest(body[bodyRTMR+48*i:][:48])
	}
	end := at + int(size)
	return raw[:end:end], registers, ReportData(body[bodyData:][:64]), nil
}

// quoteBody finds the TD report in a quote, and where it ends.
func quoteBody(raw []byte) (body []byte, end int, err error) {
	if len(raw) == 0 {
		return nil, 0, fmt.Errorf("%w: an empty quote", ErrMalformed)
	}
	if len(raw) < quoteHeader+6 {
		return nil, 0, fmt.Errorf("%w: quote of %d bytes ends in its header", ErrMalformed, len(raw))
	}
	if tee := binary.LittleEndian.Uint32(raw[4:]); tee != teeTDX {
		return nil, 0, fmt.Errorf("%w: quote of TEE type %#x, not TDX's %#x", ErrMalformed, tee, teeTDX)
	}
	start, size := quoteHeader, uint64(quoteBody10)
	switch version := binary.LittleEndian.Uint16(raw); version {
	case 4:
	case 5:
		kind := binary.LittleEndian.Uint16(raw[start:])
		size = uint64(binary.LittleEndian.Uint32(raw[start+2:]))
		sizes := map[uint16]uint64{bodyTypeTDX10: quoteBody10, bodyTypeTDX15: quoteBody15, bodyTypeTDXEx: quoteBodyEx}
		if size != sizes[kind] {
			return nil, 0, fmt.Errorf("%w: quote with a body of type %d and %d bytes, which is no TD report", ErrMalformed, kind, size)
		}
		start += 6
	default:
		return nil, 0, fmt.Errorf("%w: quote of version %d, not 4 or 5", ErrMalformed, version)
	}
	if uint64(len(raw)-start) < size {
		return nil, 0, fmt.Errorf("%w: quote of %d bytes ends in its body", ErrMalformed, len(raw))
	}
	end = start + int(size)
	return raw[start:end], end, nil
}

// boundQuote is cutQuote for a quote that was asked for over data.
func boundQuote(raw []byte, data ReportData) ([]byte, Registers, error) {
	quote, registers, quoted, err := cutQuote(raw)
	if err == nil && quoted != data {
		err = fmt.Errorf("%w: quote over other report data than was asked for", ErrMalformed)
	}
	return quote, registers, err
}
