package dcap

import (
	"fmt"
	"strings"

	"github.com/google/go-tdx-guest/pcs"
)

// platform is what a quote's PCK certificate says of the machine (Intel SGX PCK
// Certificate and CRL Profile Specification, section 1.3.5).
type platform struct {
	fmspc  string // lower-case hex
	ca     string // "platform" or "processor"
	pceID  string
	pceSVN uint16
	cpuSVN []byte // 16 components
}

func (q *Quote) platform() (p platform, err error) {
	defer recovered(&err)
	x, err := pcs.PckCertificateExtensions(q.Chain[0])
	if err != nil {
		return p, fmt.Errorf("PCK certificate: %w", err)
	}
	p = platform{fmspc: strings.ToLower(x.FMSPC), ca: "processor", pceID: x.PCEID, pceSVN: x.TCB.PCESvn, cpuSVN: x.TCB.CPUSvnComponents}
	if strings.Contains(q.Chain[1].Subject.CommonName, "Platform") {
		p.ca = "platform"
	}
	return p, nil
}
