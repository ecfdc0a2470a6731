package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
)

// CheckEnclave holds the quoting enclave and the TDX module against the
// identities in collateral. False where collateral has no identity for a module
// of the quote's version, which is TCBSVN[1].
func (c *Collateral) CheckEnclave(q *Quote) ([]Finding, bool) {
	module := c.tcb.TdxModule
	if version := q.TCBSVN[1]; version > 0 {
		id := c.module(version)
		if id == nil {
			return nil, false
		}
		module = pcs.TdxModule{Mrsigner: id.Mrsigner, Attributes: id.Attributes, AttributesMask: id.AttributesMask}
	}
	return append(checkEnclave(q.enclave, &c.qe), checkModule(q, module)...), true
}

// CheckEnclave holds the quoting enclave and the TDX module against the
// identities that Intel has published for all of them since the first. False
// where the quote's root is not Intel's: these identities are not its own then.
//
// A platform's own key vouches for any enclave that its owner lets near the
// provisioning key, and that enclave could sign what it likes. So this check
// does not wait for collateral.
func (q *Quote) CheckEnclave() ([]Finding, bool) {
	if !sameAuthority(IntelRoot(), q.Root()) {
		return nil, false
	}
	known := publishedIdentities()
	return append(checkEnclave(q.enclave, &known.qe), checkModule(q, known.tcb.TdxModule)...), true
}

// publishedIdentities are those that Intel has published for all TD quoting
// enclaves and TDX modules since the first.
func publishedIdentities() *Collateral {
	return &Collateral{set: &set{
		qe: pcs.EnclaveIdentity{
			Mrsigner:       fromHex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"),
			IsvProdID:      2,
			Attributes:     fromHex("11000000000000000000000000000000"), // with the provisioning key, not under debug
			AttributesMask: fromHex("fbffffffffffffff0000000000000000"),
			Miscselect:     fromHex("00000000"), MiscselectMask: fromHex("ffffffff"),
		},
		tcb: pcs.TcbInfo{TdxModule: pcs.TdxModule{
			Mrsigner:   pcs.HexBytes{Bytes: make([]byte, 48)},
			Attributes: fromHex("0000000000000000"), AttributesMask: fromHex("ffffffffffffffff"),
		}},
	}}
}

func fromHex(s string) pcs.HexBytes {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // it is in the binary, and a test reads it
	}
	return pcs.HexBytes{Bytes: b}
}

func checkEnclave(report *pb.EnclaveReport, qe *pcs.EnclaveIdentity) []Finding {
	var misc [4]byte
	binary.LittleEndian.PutUint32(misc[:], report.GetMiscSelect())
	return []Finding{
		{"MRSIGNER of the quoting enclave", hexOf(qe.Mrsigner.Bytes), hexOf(report.GetMrSigner()),
			bytes.Equal(report.GetMrSigner(), qe.Mrsigner.Bytes)},
		{"ISVPRODID", fmt.Sprint(qe.IsvProdID), fmt.Sprint(report.GetIsvProdId()),
			report.GetIsvProdId() == uint32(qe.IsvProdID)},
		{"ATTRIBUTES", hexOf(qe.Attributes.Bytes), hexOf(report.GetAttributes()),
			masked(qe.AttributesMask.Bytes, report.GetAttributes(), qe.Attributes.Bytes)},
		{"MISCSELECT", hexOf(qe.Miscselect.Bytes), hexOf(misc[:]),
			masked(reversed(qe.MiscselectMask.Bytes), misc[:], reversed(qe.Miscselect.Bytes))},
	}
}

func checkModule(q *Quote, m pcs.TdxModule) []Finding {
	return []Finding{
		{"MRSIGNERSEAM", hexOf(m.Mrsigner.Bytes), hexOf(q.moduleSigner), bytes.Equal(q.moduleSigner, m.Mrsigner.Bytes)},
		{"SEAMATTRIBUTES", hexOf(m.Attributes.Bytes), hexOf(q.moduleAttributes),
			masked(m.AttributesMask.Bytes, q.moduleAttributes, m.Attributes.Bytes)},
	}
}

func masked(mask, value, want []byte) bool {
	if len(mask) != len(value) || len(want) != len(value) {
		return false
	}
	for i := range value {
		if value[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// reversed turns a number in big-endian order, as which Intel writes
// MISCSELECT, into the quote's little-endian bytes.
func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

func (c *Collateral) module(version byte) *pcs.TdxModuleIdentity {
	name := fmt.Sprintf("TDX_%02x", version)
	for i := range c.tcb.TdxModuleIdentities {
		if strings.EqualFold(c.tcb.TdxModuleIdentities[i].ID, name) {
			return &c.tcb.TdxModuleIdentities[i]
		}
	}
	return nil
}
