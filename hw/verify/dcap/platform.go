package dcap

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
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

// platform reads it once: a quote is appraised by one goroutine.
func (q *Quote) platform() (p platform, err error) {
	if q.of != nil {
		return *q.of, nil
	}
	defer recovered(&err)
	x, err := pcs.PckCertificateExtensions(q.Chain[0])
	if err != nil {
		return p, fmt.Errorf("PCK certificate: %w", err)
	}
	p = platform{fmspc: strings.ToLower(x.FMSPC), ca: "processor", pceID: x.PCEID, pceSVN: x.TCB.PCESvn, cpuSVN: x.TCB.CPUSvnComponents}
	if strings.Contains(q.Chain[1].Subject.CommonName, "Platform") {
		p.ca = "platform"
	}
	q.of = &p
	return p, nil
}

// Certified is what a quote's PCK certificate says of its platform.
type Certified struct {
	Provider string          // PPID, 32 hex digits
	Settings map[string]bool // "dynamic_platform", "cached_keys", "smt"; nil in certificates of a processor
}

// Members of a PCK certificate's extension (section 1.3.5 of the profile).
var (
	oidSGX      = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	oidPPID     = append(oidSGX[:7:7], 1)
	oidSettings = append(oidSGX[:7:7], 7)
	settings    = []string{"dynamic_platform", "cached_keys", "smt"}
)

// member is a member of that extension.
type member struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// Certified reads what the PCK certificate says of the platform.
func (q *Quote) Certified() (c Certified, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("PCK certificate: %w", err)
		}
	}()
	all, err := sgxMembers(q.Chain[0])
	if err != nil {
		return c, err
	}
	for _, m := range all {
		switch {
		case m.ID.Equal(oidPPID):
			if len(m.Value.Bytes) != 16 {
				return c, errors.New("its PPID must have 16 bytes")
			}
			c.Provider = hex.EncodeToString(m.Value.Bytes)
		case m.ID.Equal(oidSettings):
			if c.Settings, err = readSettings(m.Value); err != nil {
				return c, err
			}
		}
	}
	if c.Provider == "" {
		return c, errors.New("it must have a PPID")
	}
	return c, nil
}

func sgxMembers(pck *x509.Certificate) (all []member, err error) {
	for _, e := range pck.Extensions {
		if !e.Id.Equal(oidSGX) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &all); err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("its SGX extension can't be read: %w", errors.Join(err, restOf(rest)))
		}
		return all, nil
	}
	return nil, errors.New("it has no SGX extension")
}

func restOf(rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	return errors.New("bytes stand behind it")
}

func readSettings(value asn1.RawValue) (map[string]bool, error) {
	var flags []struct {
		ID asn1.ObjectIdentifier
		On bool
	}
	if rest, err := asn1.Unmarshal(value.FullBytes, &flags); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("its configuration can't be read: %w", errors.Join(err, restOf(rest)))
	}
	found := make(map[string]bool)
	for _, f := range flags {
		if n := len(f.ID) - 1; n == len(oidSettings) && f.ID[:n].Equal(oidSettings) && f.ID[n] >= 1 && f.ID[n] <= len(settings) {
			found[settings[f.ID[n]-1]] = f.On
		}
	}
	return found, nil
}
