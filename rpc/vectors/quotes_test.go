package vectors

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/cima-project/cima/hw"
	td "github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc/quote"
)

// quoteVector is a quote and what its fields are, in hex, by Intel's names; without fields
// it is no quote.
type quoteVector struct {
	About        string            `json:"about"`
	Quote        []byte            `json:"quote"`
	Fields       map[string]string `json:"fields,omitempty"`
	Certificates []string          `json:"certificates,omitempty"` // SHA-384 of each one's DER
}

// TestRecordQuotes records quotes.json if -record is given. The fields are read by
// hw/verify/dcap, which reads quotes by another library.
func TestRecordQuotes(t *testing.T) {
	if !*record {
		return
	}
	var all []quoteVector
	for _, c := range []td.Config{{QuoteVersion: 4}, {QuoteVersion: 5, ServiceTD: hw.Digest{7}}} {
		machine, err := td.Boot(c)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := machine.Quote(t.Context(), hw.ReportData{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, known(t, "version "+strconv.Itoa(c.QuoteVersion), raw))
	}
	all = append(all, known(t, "a body of type 4", extended(all[1].Quote)))
	save(t, "quotes.json", append(all, malformed(all[0].Quote)...))
}

func known(t *testing.T, about string, raw []byte) quoteVector {
	t.Helper()
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		t.Fatal(about, err)
	}
	v := quoteVector{About: about, Quote: raw, Fields: map[string]string{
		"version": strconv.Itoa(q.Version), "tee_tcb_svn": hex.EncodeToString(q.TCBSVN[:]),
		"mr_seam": q.Module.String(), "td_attributes": hex.EncodeToString(q.Attributes[:]), "xfam": hex.EncodeToString(q.XFAM[:]),
		"mrtd": q.Registers.MRTD.String(), "mr_config_id": q.ConfigID.String(), "mr_owner": q.Owner.String(), "mr_owner_config": q.OwnerConf.String(),
		"report_data": hex.EncodeToString(q.ReportData[:]), "mr_service_td": "", "extension": "",
	}}
	for i, r := range q.Registers.RTMR {
		v.Fields["rtmr"+strconv.Itoa(i)] = r.String()
	}
	if q.ServiceTD != nil {
		v.Fields["mr_service_td"] = q.ServiceTD.String()
	}
	if q.Extended != nil {
		v.Fields["extension"] = strconv.Itoa(885 - 648)
	}
	for _, c := range q.Chain {
		sum := sha512.Sum384(c.Raw)
		v.Certificates = append(v.Certificates, hex.EncodeToString(sum[:]))
	}
	return v
}

// extended gives a quote of version 5 a body of type 4.
func extended(v5 []byte) []byte {
	const body = 48 + 6
	q := binary.LittleEndian.AppendUint16(bytes.Clone(v5[:48]), 4)
	q = binary.LittleEndian.AppendUint32(q, 885)
	q = append(q, v5[body:body+648]...)
	return append(append(q, make([]byte, 885-648)...), v5[body+648:]...)
}

// malformed are bytes that are no quote.
func malformed(good []byte) (all []quoteVector) {
	change := func(about string, f func(q []byte) []byte) {
		all = append(all, quoteVector{About: about, Quote: f(bytes.Clone(good))})
	}
	change("empty", func([]byte) []byte { return []byte{} })
	change("cut in its header", func(q []byte) []byte { return q[:47] })
	change("cut in its body", func(q []byte) []byte { return q[:600] })
	change("cut in its certificates", func(q []byte) []byte { return q[:len(q)-1] })
	change("bytes behind it", func(q []byte) []byte { return append(q, 0) })
	change("version 3", func(q []byte) []byte { q[0] = 3; return q })
	change("of SGX", func(q []byte) []byte { q[4] = 0; return q })
	change("another kind of key", func(q []byte) []byte { q[2] = 3; return q })
	change("certificates that are none", func(q []byte) []byte {
		return bytes.Replace(q, []byte("-----BEGIN"), []byte("-----BEGAN"), 1)
	})
	return all
}

func quotesOf(t testing.TB) (all []quoteVector) {
	t.Helper()
	text, err := os.ReadFile("quotes.json")
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil || len(all) < 12 {
		t.Fatalf("%d quotes: %v", len(all), err)
	}
	return all
}

// Package quote reads the recorded quotes as hw/verify/dcap did, and refuses the others.
func TestQuotes(t *testing.T) {
	for _, v := range quotesOf(t) {
		q, err := quote.Parse(v.Quote)
		if v.Fields == nil {
			if !errors.Is(err, quote.ErrMalformed) {
				t.Errorf("%s: %v", v.About, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.About, err)
			continue
		}
		b := q.Body
		got := map[string]string{
			"version": strconv.Itoa(q.Header.Version), "tee_tcb_svn": hex.EncodeToString(b.TEETCBSVN[:]), "mr_seam": b.MRSEAM.String(),
			"td_attributes": hex.EncodeToString(b.TDAttributes[:]), "xfam": hex.EncodeToString(b.XFAM[:]), "mrtd": b.MRTD.String(),
			"mr_config_id": b.MRConfigID.String(), "mr_owner": b.MROwner.String(), "mr_owner_config": b.MROwnerConfig.String(),
			"rtmr0": b.RTMR[0].String(), "rtmr1": b.RTMR[1].String(), "rtmr2": b.RTMR[2].String(), "rtmr3": b.RTMR[3].String(),
			"report_data": hex.EncodeToString(b.ReportData[:]), "mr_service_td": "", "extension": "",
		}
		if b.Type != quote.BodyTDX10 {
			got["mr_service_td"] = b.MRServiceTD.String()
		}
		if b.Extension != nil {
			got["extension"] = strconv.Itoa(len(b.Extension))
		}
		for name, want := range v.Fields {
			if got[name] != want {
				t.Errorf("%s: %s is %q, want %q", v.About, name, got[name], want)
			}
		}
		if len(q.Signature.Certificates) != len(v.Certificates) {
			t.Errorf("%s: %d certificates", v.About, len(q.Signature.Certificates))
			continue
		}
		for i, c := range q.Signature.Certificates {
			if sum := sha512.Sum384(c.Raw); hex.EncodeToString(sum[:]) != v.Certificates[i] {
				t.Errorf("%s: certificate %d is another", v.About, i)
			}
		}
	}
}

// What dcap takes, package quote takes too; and it panics on nothing.
func FuzzQuote(f *testing.F) {
	for _, v := range quotesOf(f) {
		f.Add(v.Quote)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := quote.Parse(raw)
		if q, strict := dcap.ParseQuote(raw); strict == nil && err != nil {
			t.Fatalf("dcap takes it, version %d: %v", q.Version, err)
		}
	})
}
