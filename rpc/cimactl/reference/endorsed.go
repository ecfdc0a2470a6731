package reference

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/computed"
	"github.com/cima-project/cima/hw/verify/endorsed"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func googleCommand() *cobra.Command {
	var root, at string
	var gib uint64
	c := &cobra.Command{
		Use:   "add-google NAME ENDORSEMENT --root FILE",
		Short: "Print [firmware.NAME] of Google's endorsement, for a policy",
		Long: `Check Google's launch endorsement of a firmware build (gce-tcb-verifier), up to
a root that you give, and print the table [firmware.NAME] of a policy: the
values of MRTD that it names. Nobody publishes RTMR0: its events stay open.`,
		Example: "  cimactl policy add-google gcp endorsement.binarypb --root google.crt",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&root, "root", "", "`FILE` with Google's root, PEM or DER")
	c.Flags().StringVar(&at, "at", "", "`TIME` at which the signer's certificate is judged")
	c.Flags().Uint64Var(&gib, "memory", 0, "`GIB` of the TD's memory; without it, all sizes")
	c.RunE = func(c *cobra.Command, args []string) error {
		if root == "" {
			return command.Hinted(errors.New("--root must be there: no root is built in"), "Google publishes it at https://pki.goog/cloud_integrity/GCE-cc-tcb-root_1.crt")
		}
		roots, sum, err := readRoot(root)
		if err != nil {
			return err
		}
		when := time.Now()
		if at != "" {
			if when, err = time.Parse(time.RFC3339, at); err != nil {
				return fmt.Errorf("--at must be a time as 2026-11-30T12:00:00Z: %w", err)
			}
		}
		text, err := command.ReadBounded(args[1], endorsed.MaxEndorsement)
		if err != nil {
			return err
		}
		g, err := endorsed.ReadGoogle(text, roots, when)
		if err != nil {
			return &command.Failure{Err: fmt.Errorf("%s: %w", args[1], err), Code: command.Malformed}
		}
		return printGoogle(c, args[0], g, gib, sum)
	}
	return c
}

// readRoot reads one certificate, and its SHA-256.
func readRoot(path string) (*x509.CertPool, [32]byte, error) {
	text, err := command.ReadBounded(path, 1<<20)
	if err != nil {
		return nil, [32]byte{}, err
	}
	roots := x509.NewCertPool()
	if c, err := x509.ParseCertificate(text); err == nil {
		roots.AddCert(c)
	} else if !roots.AppendCertsFromPEM(text) {
		return nil, [32]byte{}, &command.Failure{Err: fmt.Errorf("%s must be a certificate, in PEM or DER", path), Code: command.Malformed}
	}
	return roots, sha256.Sum256(text), nil
}

func printGoogle(c *cobra.Command, name string, g *endorsed.Google, gib uint64, root [32]byte) error {
	f := &computed.Firmware{Origin: []string{
		fmt.Sprintf("Google's launch endorsement, signed %s by %q,", g.Signed.Format(time.RFC3339), g.Signer.Subject.CommonName),
		fmt.Sprintf("up to the root in a file with SHA-256 %x.", root),
		fmt.Sprintf("Firmware with SHA-384 %x, SVN %d.", g.Firmware, g.SVN),
	}}
	if len(g.Unknown) > 0 {
		f.Origin = append(f.Origin, fmt.Sprintf("The endorsement has fields that are not known here: %v.", g.Unknown))
	}
	for _, m := range g.Measurements {
		if gib != 0 && m.GiB != gib {
			continue
		}
		why := fmt.Sprintf("%d GiB of memory", m.GiB)
		if m.EarlyAccept {
			why += ", accepted early"
		}
		f.MRTD = append(f.MRTD, computed.Value{Digest: m.MRTD, Why: why})
	}
	if len(f.MRTD) == 0 {
		return fmt.Errorf("the endorsement has no measurement for %d GiB of memory", gib)
	}
	p := computed.Policy{Name: name, Firmware: f, Boot: unpublished()}
	text, err := p.Write()
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(text)
	return err
}

// unpublished is RTMR0 of a firmware of which MRTD alone is known: the order of events is
// OVMF's.
func unpublished() *expected.Boot {
	b := &expected.Boot{Notes: []string{"RTMR0: variables and ACPI tables are the cloud's, and nobody publishes them"}}
	b.Add(expected.Open(1, "hob"), expected.Open(1, "cfv"), expected.Open(7, "secure-boot"))
	for range 4 {
		b.Add(expected.Open(7, "variable"))
	}
	b.Add(expected.Separator(7), expected.Open(1, "acpi"), expected.Open(1, "acpi"), expected.Open(1, "acpi"), expected.OpenMany(1, "boot"))
	return b
}

func publishedCommand() *cobra.Command {
	var origin string
	c := &cobra.Command{
		Use:   "add-published FILE --origin TEXT",
		Short: "Print tables of values that somebody publishes, for a policy",
		Long: `Print [firmware.NAME] and [system.NAME] of a policy from values that somebody
publishes, in JSON (cima-reference-values(7)): those of machines (hardware)
apart from those of systems (code). You say by --origin who vouches for them.`,
		Example: "  cimactl policy add-published values.json --origin 'release 7, minisign key K'",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&origin, "origin", "", "`TEXT`: how you know that the publisher wrote them")
	c.RunE = func(c *cobra.Command, args []string) error {
		if origin == "" {
			return command.Usage(c, errors.New("--origin must be there: values of nobody say nothing"))
		}
		text, err := command.ReadBounded(args[0], endorsed.MaxEndorsement)
		if err != nil {
			return err
		}
		p, err := endorsed.ReadPublished(text)
		if err != nil {
			return &command.Failure{Err: fmt.Errorf("%s: %w", args[0], err), Code: command.Malformed}
		}
		return printPublished(c, p, fmt.Sprintf("%s, published by %s: %s", filepath.Base(args[0]), p.Publisher, origin))
	}
	return c
}

func printPublished(c *cobra.Command, p *endorsed.Published, origin string) error {
	var tables []computed.Policy
	for _, name := range slices.Sorted(maps.Keys(p.Hardware)) {
		h := p.Hardware[name]
		f := &computed.Firmware{Origin: []string{origin}}
		for _, d := range h.MRTD {
			f.MRTD = append(f.MRTD, computed.Value{Digest: d, Why: name})
		}
		tables = append(tables, computed.Policy{Name: name, Firmware: f, Given: [3]*[48]byte{(*[48]byte)(&h.RTMR0)}})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Code)) {
		s := p.Code[name]
		tables = append(tables, computed.Policy{Name: name, System: true, Given: [3]*[48]byte{nil, (*[48]byte)(&s.RTMR1), (*[48]byte)(&s.RTMR2)},
			Boot: &expected.Boot{Line: s.Line}, Root: s.Root, HostInput: s.HostInput})
	}
	for i := range tables {
		if tables[i].Boot == nil {
			tables[i].Boot = &expected.Boot{}
		}
		tables[i].Origin = origin
		text, err := tables[i].Write()
		if err != nil {
			return &command.Failure{Err: err, Code: command.Malformed}
		}
		if _, err := c.OutOrStdout().Write(text); err != nil {
			return err
		}
	}
	return nil
}
