// Package vtpmtest answers: which quote of a TPM does a test appraise?
//
// It plays a paravisor with a TPM: a key, a text that names it, PCRs and a boot log.
package vtpmtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
)

// TPM is a TPM in a paravisor, with PCRs in the bank of SHA-256.
type TPM struct {
	Log []byte // its boot log, with banks of SHA-256 and SHA-384

	key  *rsa.PrivateKey
	pcrs [24][32]byte
}

// key is made once for all tests: it says nothing.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// New starts a TPM, and boots: an event in each of PCRs 0 to 9, and a separator.
func New() *TPM {
	t := &TPM{key: key(), Log: header()}
	for i := 17; i <= 22; i++ {
		t.pcrs[i] = [32]byte(bytes.Repeat([]byte{0xFF}, 32))
	}
	for i := range 10 {
		t.Measure(i, 0x80000008, fmt.Appendf(nil, "part %d of the boot", i))
		if i < 8 {
			t.Measure(i, 4, make([]byte, 4))
		}
	}
	return t
}

func header() []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = append(spec, 2, 0, 0, 0, 0x0B, 0, 32, 0, 0x0C, 0, 48, 0, 0)
	b := append([]byte{0, 0, 0, 0, 3, 0, 0, 0}, make([]byte, 20)...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
}

// Measure extends a PCR, and logs an event over data.
func (t *TPM) Measure(pcr int, kind uint32, data []byte) {
	small, large := sha256.Sum256(data), sha512.Sum384(data)
	le := binary.LittleEndian
	t.Log = le.AppendUint32(t.Log, uint32(pcr))
	t.Log = le.AppendUint32(t.Log, kind)
	t.Log = append(t.Log, 2, 0, 0, 0, 0x0B, 0)
	t.Log = append(append(append(t.Log, small[:]...), 0x0C, 0), large[:]...)
	t.Log = append(le.AppendUint32(t.Log, uint32(len(data))), data...)
	if kind != 3 {
		t.Extend(pcr, small)
	}
}

// Extend extends a PCR, and logs nothing.
func (t *TPM) Extend(pcr int, digest [32]byte) {
	t.pcrs[pcr] = sha256.Sum256(append(t.pcrs[pcr][:], digest[:]...))
}

// Runtime is the paravisor's text.
func (t *TPM) Runtime() []byte {
	return fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}],"vm-configuration":{"secure-boot":true},"user-data":"00"}`,
		base64.RawURLEncoding.EncodeToString(t.key.N.Bytes()))
}

// ReportData is what the hardware's quote is over.
func (t *TPM) ReportData() (data [64]byte) {
	sum := sha256.Sum256(t.Runtime())
	copy(data[:], sum[:])
	return data
}

// PCRs are the values of all PCRs, one behind the other.
func (t *TPM) PCRs() (all []byte) {
	for _, v := range t.pcrs {
		all = append(all, v[:]...)
	}
	return all
}

// Attest is a TPMS_ATTEST over data and the PCRs.
func (t *TPM) Attest(data []byte) []byte {
	be := binary.BigEndian
	b := []byte{0xFF, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 34, 0, 0x0B}
	b = append(b, bytes.Repeat([]byte{7}, 32)...)
	b = append(be.AppendUint16(b, uint16(len(data))), data...)
	b = be.AppendUint64(b, 123456)
	b = be.AppendUint32(b, 2)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint64(append(b, 1), 0x2024)
	b = append(b, 0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xFF, 0xFF, 0, 32)
	sum := sha256.Sum256(t.PCRs())
	return append(b, sum[:]...)
}

// Sign signs an attestation, as a TPMT_SIGNATURE.
func (t *TPM) Sign(tb testing.TB, attest []byte) []byte {
	tb.Helper()
	sum := sha256.Sum256(attest)
	s, err := rsa.SignPKCS1v15(rand.Reader, t.key, crypto.SHA256, sum[:])
	if err != nil {
		tb.Fatal(err)
	}
	return append([]byte{0, 0x14, 0, 0x0B, 1, 0}, s...)
}
