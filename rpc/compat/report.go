package compat

import (
	"encoding/hex"
	"fmt"
	"log"
	"strings"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/quote"
)

// QuoteDumpFormat says how a quote is logged.
type QuoteDumpFormat string

// Forms in which a quote is logged: in hex, and member by member.
const (
	QuoteDumpFormatRaw   QuoteDumpFormat = "raw"
	QuoteDumpFormatHuman QuoteDumpFormat = "human"
)

// IMRGroup are the registers in a quote.
type IMRGroup struct {
	MaxIndex int
	Group    []TcgDigest
}

// Report is a quote.
type Report interface {
	InitFromBytes([]byte) error
	IMRGroup() IMRGroup
	Dump(QuoteDumpFormat)
}

// TdxReport is the only kind of Report. Beyond CIMA 0.5's it has what the quote is bound to.
type TdxReport struct {
	Quote *TdxQuote
	Bound rpc.CCReport

	raw []byte
}

// TdxQuote is a quote: header, TD report, and the signature with its certificates.
type TdxQuote = quote.Quote

// NewTdxReportFromBytes reads a quote.
func NewTdxReportFromBytes(b []byte) (*TdxReport, error) {
	t := new(TdxReport)
	return t, t.InitFromBytes(b)
}

// InitFromBytes reads a quote.
func (t *TdxReport) InitFromBytes(b []byte) (err error) {
	t.raw = b
	t.Quote, err = quote.Parse(b)
	return err
}

// IMRGroup returns the RTMRs.
func (t *TdxReport) IMRGroup() IMRGroup {
	g := IMRGroup{MaxIndex: len(t.Quote.Body.RTMR) - 1}
	for _, r := range t.Quote.Body.RTMR {
		g.Group = append(g.Group, TcgDigest{AlgID: TPM_ALG_SHA384, Hash: r[:]})
	}
	return g
}

// Marshal returns the bytes of the quote.
func (t *TdxReport) Marshal() ([]byte, error) { return t.raw, nil }

// Dump logs the quote.
func (t *TdxReport) Dump(format QuoteDumpFormat) {
	line(fmt.Sprintf("TD quote, %d bytes", len(t.raw)))
	if format == QuoteDumpFormatRaw {
		dump(t.raw)
		return
	}
	h, b := t.Quote.Header, t.Quote.Body
	line(fmt.Sprintf("Version: %d", h.Version))
	line(fmt.Sprintf("QE vendor: %x", h.QEVendor))
	line(fmt.Sprintf("MRSEAM: %v", b.MRSEAM))
	line(fmt.Sprintf("TDATTRIBUTES: %x", b.TDAttributes))
	line(fmt.Sprintf("XFAM: %x", b.XFAM))
	line(fmt.Sprintf("MRTD: %v", b.MRTD))
	for i, r := range b.RTMR {
		line(fmt.Sprintf("RTMR%d: %v", i, r))
	}
	line(fmt.Sprintf("REPORTDATA: %x", b.ReportData))
	for _, c := range t.Quote.Signature.Certificates {
		line(fmt.Sprintf("Certificate: %s", c.Subject))
	}
}

func line(text string) { log.Default().Println(text) }

// dump logs bytes in hex, 16 a line, with the characters that they are.
func dump(b []byte) {
	for text := range strings.Lines(hex.Dump(b)) {
		line(strings.TrimSuffix(text, "\n"))
	}
}
