package sim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"

	"github.com/cima-project/cima/hw"
)

// Security versions that the chain and the quote agree on.
const (
	pceSVN = 11
	qeSVN  = 4
)

// teeTCBSVN are those of the TDX module.
var teeTCBSVN = [16]byte{3, 0, 5}

var cpuSVN = [16]byte{2, 2, 2, 2, 4, 1, 0, 5}

// intelQE is the vendor id that verifiers demand in the header
// (939a7233-f79c-4ca9-940a-0db3957f0607).
var intelQE = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// sign makes a quote (Intel TDX DCAP Quoting Library API, appendix A.3 for
// version 4, A.4 for version 5). All integers are little-endian.
func (a *authority) sign(config Config, registers hw.Registers, data hw.ReportData) ([]byte, error) {
	signed := header(config.QuoteVersion)
	if config.QuoteVersion == 5 {
		signed = binary.LittleEndian.AppendUint16(signed, 3) // TD report of TDX 1.5
		signed = binary.LittleEndian.AppendUint32(signed, 584+64)
	}
	signed = append(signed, body(config, registers, data)...)
	if config.QuoteVersion == 5 {
		signed = append(signed, teeTCBSVN[:]...) // TEE_TCB_SVN_2
		signed = append(signed, config.ServiceTD[:]...)
	}

	signature, err := signP256(a.attestation, signed)
	if err != nil {
		return nil, err
	}
	key := publicP256(a.attestation)
	report, err := a.qeReport(key)
	if err != nil {
		return nil, err
	}
	auth := bytes.Join([][]byte{signature, key, certified(6, append(report, certified(5, append(a.chainPEM, 0))...))}, nil)
	return append(binary.LittleEndian.AppendUint32(signed, uint32(len(auth))), auth...), nil
}

// certified is certification data: type, size, bytes.
func certified(kind uint16, data []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func header(version int) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(version))
	b = binary.LittleEndian.AppendUint16(b, 2)    // ECDSA with P-256
	b = binary.LittleEndian.AppendUint32(b, 0x81) // TDX
	b = append(b, 0, 0, 0, 0)                     // QE SVN, PCE SVN: reserved in version 4
	b = append(b, intelQE[:]...)
	return append(b, make([]byte, 20)...) // user data
}

// body is the TD quote body of TDX 1.0, 584 bytes.
func body(config Config, registers hw.Registers, data hw.ReportData) []byte {
	module := sha512.Sum384([]byte("CIMA simulated TD, NOT HARDWARE: TDX module"))
	attributes := [8]byte{0, 0, 0, 0x10} // SEPT_VE_DISABLE
	if config.Debug {
		attributes[0] |= 1
	}
	if config.Migratable {
		attributes[3] |= 0x20
	}
	b := append(teeTCBSVN[:len(teeTCBSVN):len(teeTCBSVN)], module[:]...) // TEE_TCB_SVN, MRSEAM
	b = append(b, make([]byte, 48+8)...)                                 // MRSIGNERSEAM, SEAMATTRIBUTES
	b = append(b, attributes[:]...)                                      // TDATTRIBUTES
	b = append(b, 0xe7, 0x02, 0x06, 0x00, 0x00, 0x00, 0x00, 0)           // XFAM
	b = append(b, registers.MRTD[:]...)
	b = append(b, make([]byte, 3*48)...) // MRCONFIGID, MROWNER, MROWNERCONFIG
	for _, rtmr := range registers.RTMR {
		b = append(b, rtmr[:]...)
	}
	return append(b, data[:]...)
}

// qeReport is the enclave report of a quoting enclave that vouches for key,
// its signature by the PCK, and the authentication data (32 bytes).
func (a *authority) qeReport(key []byte) ([]byte, error) {
	enclave := sha256.Sum256([]byte("CIMA simulated TD, NOT HARDWARE: quoting enclave"))
	signer := sha256.Sum256([]byte("CIMA simulated TD, NOT HARDWARE: enclave signer"))
	auth := sha256.Sum256([]byte("CIMA simulated TD, NOT HARDWARE: authentication data"))
	vouched := sha256.Sum256(append(bytes.Clone(key), auth[:]...))

	r := make([]byte, 384)
	copy(r[0:], cpuSVN[:])
	copy(r[48:], []byte{0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7}) // ATTRIBUTES
	copy(r[64:], enclave[:])
	copy(r[128:], signer[:])
	binary.LittleEndian.PutUint16(r[256:], 2) // ISVPRODID of the TD quoting enclave
	binary.LittleEndian.PutUint16(r[258:], qeSVN)
	copy(r[320:], vouched[:])
	signature, err := signP256(a.pck, r)
	if err != nil {
		return nil, err
	}
	r = append(r, signature...)
	r = binary.LittleEndian.AppendUint16(r, uint16(len(auth)))
	return append(r, auth[:]...), nil
}

// signP256 signs SHA-256 of message; r and s are 32 bytes each, big-endian.
func signP256(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	var out [64]byte
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out[:], nil
}

// publicP256 is x and y, 32 bytes each, big-endian.
func publicP256(key *ecdsa.PrivateKey) []byte {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err) // a key made here is on its curve
	}
	return point[1:] // without the 4 that says uncompressed
}
