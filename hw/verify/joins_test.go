package verify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	random "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
)

// joinsTo is for packaging/test/joins.py, which asks dcap-qvl.
var joinsTo = flag.String("joins", "", "write the synthetic joins to this directory")

const joins = 500

// A maker makes quotes and collateral whose levels a test chooses. It has all keys.
type maker struct {
	t                      testing.TB
	root, ca, signer       *x509.Certificate
	rootKey, caKey         *ecdsa.PrivateKey
	signerKey, pck, attest *ecdsa.PrivateKey
	quote                  []byte
	read                   *dcap.Quote
	now                    time.Time
}

// newMaker signs a simulated TD's quote anew, with keys of its own from the TD's report to
// the root. Its TDX module is of version 1, so that collateral has an identity for it.
func newMaker(t testing.TB) *maker {
	s, w := newService(t)
	m := &maker{t: t, now: time.Now().Truncate(time.Second)}
	for _, key := range []**ecdsa.PrivateKey{&m.rootKey, &m.caKey, &m.signerKey, &m.pck, &m.attest} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		*key = k
	}
	m.root = m.issue(s.quote.Chain[2], nil, m.rootKey, m.rootKey)
	m.ca = m.issue(s.quote.Chain[1], m.root, m.caKey, m.rootKey)
	pck := m.issue(s.quote.Chain[0], m.ca, m.pck, m.caKey)
	signer := *s.quote.Chain[0]
	signer.Subject, signer.ExtraExtensions, signer.SerialNumber = pkix.Name{CommonName: "Intel SGX TCB Signing"}, nil, big.NewInt(77)
	signer.Extensions = nil
	m.signer = m.issue(&signer, m.root, m.signerKey, m.rootKey)

	quote := w.evidence(idOne).Quote
	copy(quote[48:], []byte{3, 1, 5}) // TEE_TCB_SVN: SVN and version of the module
	point, err := m.attest.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	copy(quote[signatureAt:], m.sign(m.attest, quote[:authAt]))
	copy(quote[signatureAt+64:], point[1:])
	bound := sha256.Sum256(append(bytes.Clone(point[1:]), quote[reportSigAt+64+2:][:32]...))
	copy(quote[reportAt+320:], bound[:])
	copy(quote[reportSigAt:], m.sign(m.pck, quote[reportAt:reportSigAt]))
	m.quote = withChain(quote, m.chain(pck, m.ca, m.root))
	if m.read, err = dcap.ParseQuote(m.quote); err != nil {
		t.Fatal(err)
	}
	if err := m.read.Verify([]*x509.Certificate{m.root}, m.now); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *maker) issue(like, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	template := *like
	template.SignatureAlgorithm, template.AuthorityKeyId, template.RawSubject = x509.ECDSAWithSHA256, nil, nil
	template.ExtraExtensions = nil
	for _, e := range like.Extensions {
		if strings.HasPrefix(e.Id.String(), "1.2.840.113741") {
			template.ExtraExtensions = append(template.ExtraExtensions, e)
		}
	}
	if template.PublicKey = key.Public(); parent == nil {
		parent = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), by)
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *maker) sign(key *ecdsa.PrivateKey, message []byte) []byte {
	sum := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		m.t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func (m *maker) chain(certificates ...*x509.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func (m *maker) crl(issuer *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: m.now.Add(-time.Hour), NextUpdate: m.now.Add(time.Hour)}, issuer, key)
	if err != nil {
		m.t.Fatal(err)
	}
	return der
}

func (m *maker) signed(member string, form map[string]any) []byte {
	form["issueDate"], form["nextUpdate"] = m.now.Add(-time.Hour).UTC().Format(time.RFC3339), m.now.Add(time.Hour).UTC().Format(time.RFC3339)
	form["tcbEvaluationDataNumber"] = 20
	inner, err := json.Marshal(form)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.document(member, inner)
}

func (m *maker) document(member string, inner []byte) []byte {
	return fmt.Appendf(nil, `{%q:%s,"signature":"%x"}`, member, inner, m.sign(m.signerKey, inner))
}

// Statuses that Intel gives (PCS API v4).
var (
	tcbStatuses  = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"}
	partStatuses = []string{"UpToDate", "OutOfDate", "Revoked"} // of TDX modules and quoting enclaves
)

// join is collateral of one kind: levels of platform, module and quoting enclave, of which
// the quote reaches some, none or all.
func (m *maker) join(n int) (tcb, qe map[string]any) {
	r := random.New(random.NewPCG(18, uint64(n)))
	of := func(known []string) string {
		switch odds := r.IntN(100); {
		case odds < 30:
			return "UpToDate"
		case odds < 33:
			return tcbStatuses[r.IntN(len(tcbStatuses))] // also those that Intel gives to other parts
		case odds < 36:
			return "Revoked"
		}
		return known[r.IntN(len(known))]
	}
	date := func() string { return fmt.Sprintf("%d-%02d-01T00:00:00Z", 2020+r.IntN(6), 1+r.IntN(12)) }
	advisories := func(l map[string]any) map[string]any {
		var list []string
		for id := range 6 {
			if r.IntN(3) == 0 {
				list = append(list, fmt.Sprintf("INTEL-SA-0%d", 1000+id))
			}
		}
		if list != nil {
			l["advisoryIDs"] = list
		}
		return l
	}
	single := func(have int, statuses []string) (levels []any) {
		svns := []int{have + r.IntN(2), have - r.IntN(have+1), 0} // from the highest on
		for _, svn := range svns[:2-r.IntN(8)/7+r.IntN(2)] {
			levels = append(levels, advisories(map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": date(), "tcbStatus": of(statuses)}))
		}
		return levels
	}
	levels := func() (all []any) {
		for range 1 + r.IntN(4) {
			sgx, tdx, pce := slices.Clone(simCPUSVN), slices.Clone(m.read.TCBSVN[:]), 11
			switch r.IntN(40) / 4 { // out of reach by one number
			case 0, 1:
				sgx[r.IntN(16)]++
			case 2, 3:
				tdx[2+r.IntN(14)]++
			case 4:
				pce++
			case 5:
				sgx[0], tdx[2], pce = 0, 0, 0
			case 6:
				if r.IntN(4) == 0 { // by the module's numbers, which its identity judges
					tdx[r.IntN(2)] = 200
				}
			}
			all = append(all, advisories(level(components(sgx), components(tdx), pce, of(tcbStatuses[:6]), date())))
			if l := all[len(all)-1].(map[string]any); fmt.Sprint(l["advisoryIDs"]) == "[INTEL-SA-00001]" {
				delete(l, "advisoryIDs")
			}
		}
		return all
	}
	zero := strings.Repeat("00", 48)
	tcb = map[string]any{"id": "TDX", "version": 3, "fmspc": "43494D410000", "pceId": "0000", "tcbType": 0,
		"tdxModule": map[string]any{"mrsigner": zero, "attributes": zero[:16], "attributesMask": strings.Repeat("FF", 8)},
		"tdxModuleIdentities": []any{map[string]any{"id": "TDX_01", "mrsigner": zero, "attributes": zero[:16], "attributesMask": strings.Repeat("FF", 8),
			"tcbLevels": single(3, partStatuses[:2])}},
		"tcbLevels": levels()}
	report := m.quote[reportAt:]
	qe = map[string]any{"id": "TD_QE", "version": 2, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": hex.EncodeToString(report[48:64]), "attributesMask": strings.Repeat("FF", 16),
		"mrsigner": hex.EncodeToString(report[128:160]), "isvprodid": 2, "tcbLevels": single(4, partStatuses[:2])}
	return tcb, qe
}

// simCPUSVN are the SVNs in a simulated TD's PCK certificate.
var simCPUSVN = []byte{2, 2, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0}

// Synthetic joins of the levels of platform, module and quoting enclave: outcome, status
// and advisories are those that dcap-qvl 0.7.0 gave (packaging/test/joins.py), except
// where a reason is named.
func TestJoins(t *testing.T) {
	m := newMaker(t)
	text, err := os.ReadFile("testdata/joins.tsv")
	if err != nil && *joinsTo == "" {
		t.Fatal(err)
	}
	recorded := strings.Split(strings.TrimSpace(string(text)), "\n")
	signer, ca := m.chain(m.signer, m.root), m.chain(m.ca, m.root)
	rootCRL, pckCRL := m.crl(m.root, m.rootKey), m.crl(m.ca, m.caKey)
	if *joinsTo != "" {
		for name, b := range map[string][]byte{"quote": m.quote, "root": m.root.Raw, "signer": signer, "ca": ca, "root-crl": rootCRL, "pck-crl": pckCRL, "now": fmt.Append(nil, m.now.Unix())} {
			writeJoin(t, name, b)
		}
	} else if len(recorded) != joins {
		t.Fatalf("%d recorded joins", len(recorded))
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"root-crl.der": rootCRL, "pck-crl-platform.der": pckCRL, "pck-crl-platform.der.chain": ca, "tcb-43494d410000.json.chain": signer, "qe-identity.json.chain": signer} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	equal, numbers, others := 0, 0, 0
	for n := range joins {
		tcb, qe := m.join(n)
		tcbInfo, identity := m.signed("tcbInfo", tcb), m.signed("enclaveIdentity", qe)
		if *joinsTo != "" {
			writeJoin(t, fmt.Sprintf("%03d-tcb", n), tcbInfo)
			writeJoin(t, fmt.Sprintf("%03d-qe", n), identity)
			continue
		}
		for name, b := range map[string][]byte{"tcb-43494d410000.json": tcbInfo, "qe-identity.json": identity} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err, unusable := dcap.NewHeld().Collateral(t.Context(), dcap.Dir(dir), m.read, m.now)
		if err != nil || unusable != nil {
			t.Fatal(err, unusable)
		}
		got := "none"
		if l, err := c.Level(m.read); err == nil {
			got = l.Status + "\t" + strings.Join(l.Advisories, ",")
		}
		switch want := recorded[n]; {
		case got == want:
			equal++
		case moduleNumbers(tcb):
			// It compares the first two TDX components too. By Intel's algorithm (PCS API
			// v4, Get TDX TCB Info) they don't count where the module has an identity.
			numbers++
		case want == "Revoked" && strings.HasPrefix(got, "Revoked\t"): // it refuses, and names no advisories
			equal++
		case othersStatus(tcb["tdxModuleIdentities"].([]any)[0], qe):
			// Intel gives such a status to platforms alone. It refuses some for the module, and
			// takes some of the enclave for UpToDate. Here a result tells it, and what isn't
			// allowed by name is refused.
			if others++; strings.HasPrefix(got, "UpToDate") {
				t.Errorf("join %d: %q", n, got)
			}
		default:
			t.Errorf("join %d: %q, dcap-qvl %q", n, got, want)
		}
	}
	if *joinsTo != "" {
		return
	}
	t.Logf("%d of %d equal; %d with numbers of the module in a platform's level; %d with a status of another part", equal, joins, numbers, others)
	if equal < 480 {
		t.Errorf("%d are equal", equal)
	}
}

// moduleNumbers reports whether a level wants more of the first two TDX components.
func moduleNumbers(tcb map[string]any) bool {
	return slices.ContainsFunc(tcb["tcbLevels"].([]any), func(l any) bool {
		tdx := l.(map[string]any)["tcb"].(map[string]any)["tdxtcbcomponents"].([]any)
		return fmt.Sprint(tdx[0], tdx[1]) != "map[svn:3] map[svn:1]"
	})
}

// othersStatus reports whether the levels of a part have a status that Intel gives to
// platforms alone.
func othersStatus(parts ...any) bool {
	return slices.ContainsFunc(parts, func(part any) bool {
		return slices.ContainsFunc(part.(map[string]any)["tcbLevels"].([]any), func(l any) bool {
			return !slices.Contains(partStatuses, l.(map[string]any)["tcbStatus"].(string))
		})
	})
}

func writeJoin(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(*joinsTo, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// given are documents as a service that nobody needs to trust gives them.
type given struct{ body, chain [dcap.RootCRL + 1][]byte }

func (g *given) Get(_ context.Context, doc dcap.Document, _ string) (body, chain []byte, err error) {
	return g.body[doc], g.chain[doc], nil
}

// Documents of any content, signed as Intel signs, never stop an appraisal and never give a
// level without a status; nothing that isn't signed gives one at all.
func FuzzCollateral(f *testing.F) {
	m := newMaker(f)
	signer, ca := m.chain(m.signer, m.root), m.chain(m.ca, m.root)
	rootCRL, pckCRL := m.crl(m.root, m.rootKey), m.crl(m.ca, m.caKey)
	inner := func(document []byte) []byte {
		from, to := bytes.IndexByte(document, ':')+1, bytes.LastIndex(document, []byte(`,"signature"`))
		return document[from:to]
	}
	for n := range 8 {
		tcb, qe := m.join(n)
		f.Add(inner(m.signed("tcbInfo", tcb)), inner(m.signed("enclaveIdentity", qe)), []byte{}, []byte{}, []byte{}, n%4 != 3)
	}
	f.Add([]byte(`{}`), []byte(`null`), signer, rootCRL, pckCRL, true)
	f.Add([]byte(`{}`), []byte(`null`), []byte("-----BEGIN CERTIFICATE-----"), []byte{0x30, 0x80}, []byte{}, true)
	f.Fuzz(func(t *testing.T, tcb, qe, chain, root, pck []byte, sign bool) {
		// Each process that fuzzes has keys of its own: nothing stands for what it signs.
		for _, d := range []struct {
			given *[]byte
			own   []byte
		}{{&chain, signer}, {&root, rootCRL}, {&pck, pckCRL}} {
			if len(*d.given) == 0 {
				*d.given = d.own
			}
		}
		var g given
		g.chain = [...][]byte{dcap.TCBInfo: chain, dcap.QEIdentity: chain, dcap.PCKCRL: ca, dcap.RootCRL: nil}
		g.body = [...][]byte{dcap.TCBInfo: tcb, dcap.QEIdentity: qe, dcap.PCKCRL: pck, dcap.RootCRL: root}
		if sign {
			g.body[dcap.TCBInfo], g.body[dcap.QEIdentity] = m.document("tcbInfo", tcb), m.document("enclaveIdentity", qe)
		}
		c, unavailable, err := dcap.NewHeld().Collateral(t.Context(), &g, m.read, m.now)
		if unavailable != nil {
			t.Fatal(unavailable)
		}
		if err != nil {
			if len(err.Error()) > 4096 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if !sign {
			t.Errorf("%q, which nobody signed, was read", tcb)
		}
		c.CheckEnclave(m.read)
		c.Behind(m.read)
		if l, err := c.Level(m.read); err == nil && l.Status == "" {
			t.Errorf("a level without a status: %+v", l)
		}
	})
}
