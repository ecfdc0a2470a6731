package reference

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/endorsed"
	"github.com/cima-project/cima/hw/verify/policy"
)

// root is a file with a certificate.
func root(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// What an endorsement says becomes a table, and what it doesn't say stays open.
func TestPrintGoogle(t *testing.T) {
	g := &endorsed.Google{Signed: time.Unix(1e9, 0).UTC(), Firmware: make([]byte, 48), SVN: 3, Unknown: []int{9}, Signer: &x509.Certificate{Subject: pkix.Name{CommonName: "signer"}},
		Measurements: []endorsed.Measurement{{GiB: 4, MRTD: [48]byte{1}}, {GiB: 8, EarlyAccept: true, MRTD: [48]byte{2}}}}
	for gib, want := range map[uint64]string{0: "8 GiB of memory, accepted early", 4: "4 GiB of memory\n", 5: ""} {
		var out strings.Builder
		c := &cobra.Command{}
		c.SetOut(&out)
		err := printGoogle(c, "gcp", g, gib, [32]byte{})
		if (err == nil) != (want != "") || !strings.Contains(out.String(), want) || gib == 4 && strings.Contains(out.String(), "8 GiB") {
			t.Errorf("%d GiB: %v, %s", gib, err, &out)
		}
		if err != nil {
			continue
		}
		text := "cima_policy = 2\n" + out.String() + "[system.x]\nrtmr1 = \"" + strings.Repeat("1", 96) + "\"\nrtmr2 = \"" + strings.Repeat("1", 96) + "\"\nroot = \"not covered\"\nhost_input = \"unknown\"\n[[boot]]\nname = \"x\"\nfirmware = \"gcp\"\nsystem = \"x\"\n"
		if _, err := policy.Parse("p", []byte(text)); err != nil || !strings.Contains(text, "fields that are not known here: [9]") {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
