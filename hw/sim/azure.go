package sim

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw"
)

// azure is a machine behind a paravisor, as Azure has them: RTMRs are zero, and a vTPM signs.
// The vTPM's key is made at boot, and the hardware signs once, over the paravisor's JSON, which
// names the key: a TDX quote, or an SNP report with its certificates.
type azure struct {
	trusted  []byte // the root, PEM
	key      *rsa.PrivateKey
	hardware hw.Signed // of it quote, certificates and the JSON
}

// hardware signs the paravisor's hash.
type hardware func(hw.ReportData) (quote []byte, certificates [][]byte, err error)

func newAzureTDX(config Config, keys *authority) (*azure, error) {
	return newAzure("simulated TD", keys.rootPEM, func(data hw.ReportData) ([]byte, [][]byte, error) {
		quote, err := keys.sign(config, hw.Registers{MRTD: config.MRTD}, data)
		return quote, nil, err
	})
}

func newAzureSNP(config Config) (*azure, error) {
	p, err := newSNP(config)
	if err != nil {
		return nil, err
	}
	return newAzure("simulated SNP guest", p.root(), func(data hw.ReportData) ([]byte, [][]byte, error) {
		report, err := p.report(config.MRTD, data)
		return report, [][]byte{p.vcek.Raw, p.ask.Raw, p.ark.Raw}, err
	})
}

func newAzure(what string, root []byte, sign hardware) (*azure, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	a := &azure{trusted: root, key: key}
	modulus := base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	a.hardware.RuntimeData = fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}],`+
		`"vm-configuration":{"console-enabled":true,"secure-boot":true,"tpm-enabled":true,"vmUniqueId":"CIMA %s, NOT HARDWARE"},"user-data":%q}`,
		modulus, what, strings.Repeat("0", 128))
	sum := sha256.Sum256(a.hardware.RuntimeData)
	var data hw.ReportData
	copy(data[:], sum[:])
	a.hardware.Quote, a.hardware.Certificates, err = sign(data)
	return a, err
}

func (a *azure) root() []byte { return a.trusted }

// answer is what the vTPM signs over data and its PCRs, beside what the hardware signed at boot.
func (a *azure) answer(now state, data hw.ReportData) ([]byte, error) {
	var values []byte
	for _, value := range now.banks.sha256 {
		values = append(values, value[:]...)
	}
	over := sha512.Sum384(data[:])
	attest := attestation(over[:], sha256.Sum256(values))
	digest := sha256.Sum256(attest)
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, err
	}
	signature = append([]byte{0, 0x14, 0, 0x0b, byte(len(signature) >> 8), byte(len(signature))}, signature...) // RSASSA, SHA-256
	s := a.hardware
	s.TPMQuote, s.TPMSignature, s.PCRs = attest, signature, values
	return hw.JoinVTPM(s), nil
}

// attestation is a TPMS_ATTEST of a quote of PCRs 0–23 in the bank of SHA-256 (TPM 2.0 Library, part 2,
// section 10.12). Integers are big-endian.
func attestation(data []byte, values [sha256.Size]byte) []byte {
	signer := sha256.Sum256([]byte("CIMA simulated TD, NOT HARDWARE: vTPM"))
	b := []byte("\xffTCG\x80\x18\x00\x22\x00\x0b")
	b = append(b, signer[:]...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
	b = binary.BigEndian.AppendUint64(b, 1) // clock
	b = binary.BigEndian.AppendUint32(b, 1) // resetCount
	b = binary.BigEndian.AppendUint32(b, 0) // restartCount
	b = append(b, 1)                        // safe
	b = binary.BigEndian.AppendUint64(b, 0) // firmware version
	b = append(b, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff)
	b = append(b, 0, sha256.Size)
	return append(b, values[:]...)
}
