package collateraltest

import (
	"encoding/hex"
	"strings"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"

	"github.com/cima-project/cima/hw/verify/dcap"
)

// rate has the service know the platform of a quote: its TCB level and its quoting enclave
// are the newest.
func (s *Service) rate(raw []byte) {
	s.t.Helper()
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := pcs.PckCertificateExtensions(q.Chain[0])
	if err != nil {
		s.t.Fatal(err)
	}
	proto, err := abi.QuoteToProto(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	e := proto.(*pb.QuoteV4).GetSignedData().GetCertificationData().GetQeReportCertificationData().GetQeReport()
	s.Kind = strings.ToLower(p.FMSPC)
	zero := strings.Repeat("00", 48)
	const date = "2026-01-01T00:00:00Z"
	s.tcb = map[string]any{
		"pceId":     p.PCEID,
		"tdxModule": map[string]any{"mrsigner": zero, "attributes": zero[:16], "attributesMask": strings.Repeat("FF", 8)},
		"tcbLevels": []any{map[string]any{"tcbDate": date, "tcbStatus": dcap.StatusUpToDate, "tcb": map[string]any{
			"sgxtcbcomponents": components(p.TCB.CPUSvnComponents), "tdxtcbcomponents": components(q.TCBSVN[:]), "pcesvn": p.TCB.PCESvn,
		}}},
	}
	s.qe = map[string]any{
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": hex.EncodeToString(e.GetAttributes()), "attributesMask": strings.Repeat("FF", 16),
		"mrsigner": hex.EncodeToString(e.GetMrSigner()), "isvprodid": e.GetIsvProdId(),
		"tcbLevels": []any{map[string]any{"tcb": map[string]any{"isvsvn": e.GetIsvSvn()}, "tcbDate": date, "tcbStatus": dcap.StatusUpToDate}},
	}
}

func components(svn []byte) (list []any) {
	for _, v := range svn {
		list = append(list, map[string]any{"svn": v})
	}
	return list
}
