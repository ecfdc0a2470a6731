package verify

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json/v2"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Places in a simulated TD's quote of version 4.
const (
	authAt      = 48 + 584 // its size, 4 bytes
	signatureAt = authAt + 4
	certifiedAt = signatureAt + 64 + 64 // type, 2 bytes; size, 4
	reportAt    = certifiedAt + 6
	reportSigAt = reportAt + 384
	chainAt     = reportSigAt + 64 + 2 + 32 + 6 // behind the authentication data, type and size
)

// second writes s of a signature in the quote in its other form: n - s.
func second(quote []byte, at int) {
	s := new(big.Int).SetBytes(quote[at+32 : at+64])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(quote[at+32 : at+64])
}

// secondDER is a certificate whose signature has its other form.
func secondDER(t *testing.T, der []byte) []byte {
	t.Helper()
	var c struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(c.Signature.Bytes, &sig); err != nil {
		t.Fatal(err)
	}
	sig.S.Sub(elliptic.P256().Params().N, sig.S)
	raw, err := asn1.Marshal(sig)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)}
	again, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// withChain is the quote with another chain.
func withChain(quote, chain []byte) []byte {
	q := append(bytes.Clone(quote[:chainAt]), chain...)
	for _, at := range []int{authAt, certifiedAt + 2, chainAt - 4} {
		binary.LittleEndian.PutUint32(q[at:], uint32(len(q)-at-4))
	}
	return q
}

func certificates(t *testing.T, quote []byte) (all []*x509.Certificate) {
	t.Helper()
	for rest := quote[chainAt:]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
}

// Everybody can write an ECDSA signature in a second form, and quoting enclaves write both.
// So can everybody give the same chain in another encoding, which no signature covers.
// Neither changes anything that a result says; the agent's own signature has one form.
func TestSecondForms(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	e := w.evidence(idOne)
	quote := e.Quote
	opts.Policy = policyOf(t, appraiseT(t, encode(t, e), opts))
	opts.At = opts.at() // one time for all results
	said := func(quote []byte) string {
		e.Quote = quote
		r := appraiseT(t, rawEncode(t, e), opts)
		expect(t, r, Trusted)
		text, err := json.Marshal(r, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := said(quote)
	chain := certificates(t, quote)
	if len(chain) != 3 {
		t.Fatalf("%d certificates", len(chain))
	}
	var other, der []byte
	for _, c := range chain {
		other = append(other, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secondDER(t, c.Raw)})...)
		der = append(der, c.Raw...)
	}
	attestation, enclave := bytes.Clone(quote), bytes.Clone(quote)
	second(attestation, signatureAt)
	second(enclave, reportSigAt)
	for name, raw := range map[string][]byte{
		"the TD's report":          attestation,
		"the quoting enclave's":    enclave,
		"the certificates'":        withChain(quote, append(other, 0)),
		"a chain without its NUL":  withChain(quote, bytes.TrimSuffix(quote[chainAt:], []byte{0})),
		"a chain in DER":           withChain(quote, der),
		"in DER, the root first":   withChain(quote, bytes.Join([][]byte{chain[2].Raw, chain[1].Raw, chain[0].Raw}, nil)),
		"in DER, the second forms": withChain(enclave, bytes.Join([][]byte{secondDER(t, chain[0].Raw), secondDER(t, chain[1].Raw), secondDER(t, chain[2].Raw)}, nil)),
	} {
		if bytes.Equal(raw, quote) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if diff := cmp.Diff(want, said(raw)); diff != "" {
			t.Errorf("%s: another result: %s", name, diff)
		}
	}
	for name, chain := range map[string][]byte{
		"DER, four certificates":   append(bytes.Clone(der), chain[2].Raw...),
		"DER, two":                 append(bytes.Clone(chain[0].Raw), chain[1].Raw...),
		"DER and a NUL":            append(bytes.Clone(der), 0),
		"DER, cut":                 der[:len(der)-1],
		"DER, then PEM":            append(bytes.Clone(chain[0].Raw), quote[chainAt:]...),
		"a signature in BER":       bytes.Replace(der, []byte{0x30, 0x82}, []byte{0x30, 0x83, 0}, 1),
		"DER in another order":     bytes.Join([][]byte{chain[1].Raw, chain[0].Raw, chain[2].Raw}, nil),
		"another's root behind it": bytes.Join([][]byte{chain[0].Raw, chain[1].Raw, chain[1].Raw}, nil),
	} {
		e.Quote = withChain(quote, chain)
		if r := appraiseT(t, rawEncode(t, e), opts); r.Verdict != NotAuthentic && r.Verdict != Malformed {
			t.Errorf("%s: %s", name, r.Verdict)
		}
	}
	// Ed25519's S + L would be the agent's second form.
	e.Quote = quote
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := bytes.Clone(e.AgentSignature[32:])
	for i := range 16 {
		s[i], s[31-i] = s[31-i], s[i]
	}
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order)
	sum.FillBytes(s)
	for i := range 16 {
		s[i], s[31-i] = s[31-i], s[i]
	}
	copy(e.AgentSignature[32:], s)
	expect(t, appraiseT(t, rawEncode(t, e), opts), NotAuthentic, StepAgent)
}
