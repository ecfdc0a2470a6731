package card_test

import (
	"testing"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/rpc"
)

// TestPlatform: a card says which kind of guest it is about.
func TestPlatform(t *testing.T) {
	for want, r := range map[string]*verify.Result{
		"\nwhere       a TD whose":                            {Claims: claims("rtmr3")},
		"\nwhere       an SNP guest whose":                    {Guest: &guest.Guest{}, Claims: claims("report-data")},
		"\nwhere       a TD behind a paravisor whose":         {Claims: claims("pcr")},
		"\nwhere       an SNP guest behind a paravisor whose": {Guest: &guest.Guest{}, Claims: claims("pcr")},
	} {
		r.Verdict = verify.NotTrusted
		says(t, r, []string{want})
	}
}

func claims(anchor string) *rpc.Claims {
	return &rpc.Claims{Host: &rpc.HostClaims{}, Log: rpc.LogClaims{Anchor: anchor}}
}
