package verify

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

// enclave: the quoting enclave, and the TDX module, are Intel's. A platform's
// own key vouches for any enclave that its owner lets near the provisioning key,
// and that one could sign whatever it likes: so this doesn't wait for collateral.
func (a *appraisal) enclave() Step {
	c := a.collateral
	switch {
	case c != nil:
	case a.untrusted != nil:
		return skip("the quote's chain is not trusted")
	case !sameAuthority(IntelRoot(), a.quote.Chain[chainLength-1]):
		return skip("no usable collateral, and the root is not Intel's: quoting enclave and TDX module not checked")
	default:
		known := intels()
		var f findings
		f.wantEnclave(a.quote.enclave, &known.qe)
		f.wantModule(a.quote, known.tcb.TdxModule)
		return f.intels("quoting enclave and TDX module are signed by Intel; no usable collateral: how old they are was not checked")
	}
	var f findings
	f.wantEnclave(a.quote.enclave, &c.qe)
	module := c.tcb.TdxModule
	if version := a.quote.TCBSVN[1]; version > 0 {
		id := c.module(version)
		if id == nil {
			return fail(fmt.Sprintf("Intel knows no TDX module of version %d", version))
		}
		module = pcs.TdxModule{Mrsigner: id.Mrsigner, Attributes: id.Attributes, AttributesMask: id.AttributesMask}
	}
	f.wantModule(a.quote, module)
	return f.intels("quoting enclave and TDX module are Intel's")
}

// intels are the identities that Intel has published for all TD quoting
// enclaves and TDX modules since the first.
func intels() *collateral {
	return &collateral{
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
	}
}

func fromHex(s string) pcs.HexBytes {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // it is in the binary, and a test reads it
	}
	return pcs.HexBytes{Bytes: b}
}

func (f *findings) wantEnclave(report *pb.EnclaveReport, qe *pcs.EnclaveIdentity) {
	var misc [4]byte
	binary.LittleEndian.PutUint32(misc[:], report.GetMiscSelect())
	f.want(bytes.Equal(report.GetMrSigner(), qe.Mrsigner.Bytes), "MRSIGNER of the quoting enclave", hexOf(qe.Mrsigner.Bytes), hexOf(report.GetMrSigner()))
	f.want(report.GetIsvProdId() == uint32(qe.IsvProdID), "ISVPRODID", fmt.Sprint(qe.IsvProdID), fmt.Sprint(report.GetIsvProdId()))
	f.want(masked(qe.AttributesMask.Bytes, report.GetAttributes(), qe.Attributes.Bytes), "ATTRIBUTES", hexOf(qe.Attributes.Bytes), hexOf(report.GetAttributes()))
	f.want(masked(reversed(qe.MiscselectMask.Bytes), misc[:], reversed(qe.Miscselect.Bytes)), "MISCSELECT", hexOf(qe.Miscselect.Bytes), hexOf(misc[:]))
}

func (f *findings) wantModule(q *Quote, m pcs.TdxModule) {
	f.want(bytes.Equal(q.moduleSigner, m.Mrsigner.Bytes), "MRSIGNERSEAM", hexOf(m.Mrsigner.Bytes), hexOf(q.moduleSigner))
	f.want(masked(m.AttributesMask.Bytes, q.moduleAttributes, m.Attributes.Bytes), "SEAMATTRIBUTES", hexOf(m.Attributes.Bytes), hexOf(q.moduleAttributes))
}

func (f *findings) intels(fine string) Step {
	if len(f.wrong) > 0 {
		return fail("not Intel's: "+strings.Join(f.wrong, "; "), f.compared...)
	}
	return pass(fine, f.compared...)
}

// reversed: Intel writes MISCSELECT as a number, in hex.
func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

func (c *collateral) module(version byte) *pcs.TdxModuleIdentity {
	name := fmt.Sprintf("TDX_%02x", version)
	for i := range c.tcb.TdxModuleIdentities {
		if strings.EqualFold(c.tcb.TdxModuleIdentities[i].ID, name) {
			return &c.tcb.TdxModuleIdentities[i]
		}
	}
	return nil
}
