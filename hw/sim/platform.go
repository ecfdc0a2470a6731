package sim

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// platform is what differs between simulated machines: who signs, and what.
type platform interface {
	// answer signs data, and the machine's state where the hardware does.
	answer(now state, data hw.ReportData) ([]byte, error)
	// root is what verifiers trust it by.
	root() []byte
}

// state is all that a machine measured.
type state struct {
	hw.Registers
	banks banks
}

// banks are the PCRs of a machine's vTPM; zero where it has none.
type banks struct {
	sha256 [24][sha256.Size]byte
	sha384 [24]hw.Digest
}

// newBanks are PCRs as they are after a reset: 17 to 22 are for a dynamic launch.
func newBanks() (b banks) {
	for n := 17; n <= 22; n++ {
		for i := range b.sha256[n] {
			b.sha256[n][i] = 0xff
		}
		for i := range b.sha384[n] {
			b.sha384[n][i] = 0xff
		}
	}
	return b
}

// value is a PCR, 0 to 23.
func (b banks) value(number int) pcr.Value {
	return pcr.Value{}.WithSHA256(b.sha256[number]).WithSHA384(b.sha384[number])
}

func (b *banks) set(number int, v pcr.Value) {
	b.sha256[number], _ = v.SHA256()
	of, _ := v.SHA384()
	b.sha384[number] = of
}

// partsOf are the parts of the platform of this name; "" is a TD.
func partsOf(tee string) (hw.Parts, error) {
	switch tee {
	case "", hw.TEETDX:
		return hw.TDXParts(), nil
	case hw.TEESNP:
		return hw.SNPParts(), nil
	case hw.TEEAzureTDX, hw.TEEAzureSNP:
		return hw.Parts{TEE: tee, Anchor: logs.AnchorPCR, BootLog: hw.BootLogTPM}, nil
	}
	return hw.Parts{}, fmt.Errorf("platform %q: a simulated machine is a %q, %q, %q or %q", tee, hw.TEETDX, hw.TEEAzureTDX, hw.TEESNP, hw.TEEAzureSNP)
}

// open takes an answer of this platform apart.
func open(parts hw.Parts, answer []byte, number int) (hw.Signed, error) {
	switch parts.TEE {
	case hw.TEESNP:
		return hw.OpenSNP(answer)
	case hw.TEEAzureTDX, hw.TEEAzureSNP:
		return hw.OpenVTPM(answer, parts.TEE, number)
	}
	return hw.OpenTDX(answer)
}

// tdx is a TD's platform: Intel's quoting enclave, over all registers.
type tdx struct {
	config Config
	keys   *authority
}

func (p tdx) root() []byte { return p.keys.rootPEM }

func (p tdx) answer(now state, data hw.ReportData) ([]byte, error) {
	return p.keys.sign(p.config, now.Registers, data)
}

// newPlatform makes the keys of a platform.
func newPlatform(parts hw.Parts, config Config) (platform, error) {
	switch parts.TEE {
	case hw.TEESNP:
		return newSNP(config)
	case hw.TEEAzureSNP:
		return newAzureSNP(config)
	}
	keys, err := newAuthority(config.RootFile)
	if err != nil {
		return nil, err
	}
	if parts.TEE == hw.TEEAzureTDX {
		return newAzureTDX(config, keys)
	}
	return tdx{config, keys}, nil
}

// keyOf is a certificate's own key.
func keyOf(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}
