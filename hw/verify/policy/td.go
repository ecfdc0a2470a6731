package policy

import (
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
)

// TDOf returns the rules that allow the TD of a quote, and no other kind of TD.
func TDOf(q *dcap.Quote) TD {
	p := TD{AllowDebug: q.UnderDebug()}
	switch {
	case !q.Migrates():
	case q.ServiceTD == nil || *q.ServiceTD == (hw.Digest{}):
		p.AllowMigratable = true
	default:
		p.ServiceTDs = []hw.Digest{*q.ServiceTD}
	}
	return p
}
