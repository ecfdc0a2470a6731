// Package collateral answers: how does one get and look at collateral from the command line?
package collateral

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw"
	verifier "github.com/cima-project/cima/hw/verify/collateral"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Command is `cimactl collateral`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "collateral",
		Short: "Get and look at documents on platforms",
		Long: `Get and look at signed documents on platforms: Intel's on patch levels, quoting
enclaves and revoked certificates, AMD's on keys and revoked certificates.
"cimactl verify --online" keeps them in a cache.`,
		Example: `  cimactl collateral fetch evidence.json --to collateral/
  cimactl collateral check evidence.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(fetchCommand(), showCommand(), checkCommand())
	return c
}

// flags are those that the verbs share.
type flags struct {
	root, at string
	asJSON   bool
}

func (f *flags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.root, "trust-root", "", "`PEM` root to trust instead of Intel's or AMD's")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the documents' states as JSON")
}

func (f *flags) addAt(c *cobra.Command) {
	c.Flags().StringVar(&f.at, "at", "", "judge as of this `TIME` (RFC 3339), not as of now")
}

func (f *flags) read() (roots []*x509.Certificate, at time.Time, err error) {
	if f.root != "" {
		if roots, err = appraise.ReadRoots(f.root); err != nil {
			return nil, at, err
		}
	}
	at, err = appraise.ParseTime(f.at)
	if at.IsZero() {
		at = time.Now()
	}
	return roots, at, err
}

func fetchCommand() *cobra.Command {
	var f flags
	var to, fmspc, ca, line string
	var from appraise.Services
	c := &cobra.Command{
		Use:   "fetch {EVIDENCE | --fmspc HEX | --line NAME}",
		Short: "Get the documents on a platform from Intel's or AMD's service",
		Long: `Get the documents on the platform of some evidence (or of a quote in a file)
from Intel's or AMD's service, into the cache that "cimactl verify --online"
reads; with --to also into a folder for "cimactl verify --collateral".`,
		Example: `  cimactl collateral fetch evidence.json --to collateral/
  cimactl collateral fetch --fmspc b0c06f000000 --pccs https://pccs.example:8081
  cimactl collateral fetch --line milan --to collateral/`,
		Args: cobra.MaximumNArgs(1),
	}
	f.add(c)
	c.Flags().StringVar(&to, "to", "", "`DIR` to write files into, besides the cache")
	c.Flags().StringVar(&from.PCCS, "pccs", "", "ask the caching service (PCCS) at this `URL`, not Intel")
	c.Flags().StringVar(&from.KDS, "kds", "", "ask the service at this `URL`, not AMD")
	c.Flags().StringVar(&line, "line", "", "AMD's lists on `NAME`: milan, genoa or turin")
	c.Flags().StringVar(&fmspc, "fmspc", "", "the kind of platform: 12 `HEX` digits")
	c.Flags().StringVar(&ca, "ca", "platform", "with --fmspc: the `CA`; or processor")
	c.RunE = func(c *cobra.Command, args []string) error {
		roots, _, err := f.read()
		if err != nil {
			return err
		}
		needs, err := needs(args, fmspc, ca, line)
		if err != nil {
			return err
		}
		cache, err := appraise.Cache(c, from, roots)
		if err != nil {
			return err
		}
		var states []verifier.State
		for _, one := range needs {
			if states, err = fetch(c, cache, to, one); !snp.Unknown(err) {
				break
			}
		}
		if err != nil {
			return appraise.CollateralFailure(err)
		}
		return show(c, states, f.asJSON)
	}
	return c
}

// fetch gets documents into the cache, and into a folder if one is named.
func fetch(c *cobra.Command, cache *verifier.Cache, to string, needs []verifier.Need) (states []verifier.State, err error) {
	for _, n := range needs {
		fmt.Fprintf(c.ErrOrStderr(), "cimactl: asking for %s %s\n", n.Kind, verifier.State{Of: n.Of}.Whose())
		s, err := cache.Fetch(c.Context(), n)
		if err == nil && to != "" {
			err = export(c.Context(), cache, to, n)
		}
		if err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	return states, nil
}

// export copies a document from the cache into a folder.
func export(ctx context.Context, cache *verifier.Cache, to string, n verifier.Need) error {
	body, chain, err := verifier.Held(cache.Dir).Document(ctx, n)
	if err != nil {
		return err
	}
	return verifier.Export(to, n, body, chain)
}

// needs says which documents are wanted: one of the lists, the first that is to be had.
func needs(args []string, fmspc, ca, line string) ([][]verifier.Need, error) {
	given := len(args)
	for _, flag := range []string{fmspc, line} {
		if flag != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, command.Hinted(errors.New("either EVIDENCE or --fmspc or --line must be given"), "the evidence, or a quote in a file, names the kind of platform by itself")
	case line != "":
		return needsOfLine(line)
	case fmspc == "":
		return needsOf(args[0])
	case len(fmspc) != 12 || !isHex(fmspc):
		return nil, fmt.Errorf("--fmspc must be 12 lower-case hex digits, not %q", fmspc)
	case ca != "platform" && ca != "processor":
		return nil, fmt.Errorf("--ca must be platform or processor, not %q", ca)
	}
	return [][]verifier.Need{verifier.Needs(fmspc, ca)}, nil
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// needsOf reads evidence, or a quote, and says which documents its platform needs, as needs does.
func needsOf(path string) ([][]verifier.Need, error) {
	data, err := command.ReadEvidence(path)
	if err != nil {
		return nil, err
	}
	raw, _ := dcap.Plain(data)
	if e, _, err := rpc.DecodeEvidence(data); err == nil {
		if e.TEE == hw.TEESNP || e.TEE == hw.TEEAzureSNP {
			return needsOfSNP(path, e)
		}
		raw = e.Quote
	}
	q, _, err := dcap.CutQuote(raw)
	if err != nil {
		return nil, &command.Failure{Err: fmt.Errorf("%s: neither evidence nor a quote: %w", path, err), Code: command.Malformed,
			Hint: "give the output of `cimactl evidence`, or a quote's bytes"}
	}
	fmspc, ca, err := q.Kind()
	if err != nil {
		return nil, &command.Failure{Err: fmt.Errorf("%s: %w", path, err), Code: command.Malformed}
	}
	return [][]verifier.Need{verifier.Needs(fmspc, ca)}, nil
}

// needsOfSNP are the documents that an appraisal of an SNP guest's evidence takes: a list and,
// where its report came without, a certificate. A report of version 2 does not tell the line.
func needsOfSNP(path string, e *rpc.Evidence) (needs [][]verifier.Need, err error) {
	a, err := snp.Parse(e.Quote, e.Platform.Certificates)
	if err != nil {
		return nil, &command.Failure{Err: fmt.Errorf("%s: %w", path, err), Code: command.Malformed}
	}
	if a.Leaf != nil {
		return [][]verifier.Need{{verifier.ListNeed(a.Leaf.Line(), a.Leaf.VLEK)}}, nil
	}
	keys, err := a.Keys()
	if err != nil {
		return nil, fmt.Errorf("%s: the SNP report came without a certificate: %w", path, err)
	}
	for _, k := range keys {
		needs = append(needs, []verifier.Need{verifier.KeyNeed(a.Report, k), verifier.ListNeed(k.Line, false)})
	}
	return needs, nil
}

// needsOfLine are both lists of a line of AMD's.
func needsOfLine(name string) ([][]verifier.Need, error) {
	for _, line := range snp.Lines() {
		if strings.ToLower(string(line)) == name {
			return [][]verifier.Need{{verifier.ListNeed(line, false), verifier.ListNeed(line, true)}}, nil
		}
	}
	return nil, fmt.Errorf("--line must be milan, genoa or turin, not %q", name)
}

func showCommand() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:     "show [DIR]",
		Short:   "Show the documents in the cache, or in a folder",
		Long:    "Show which documents the cache, or a folder for --collateral, has, and how each\nstands.",
		Example: "  cimactl collateral show collateral/",
		Args:    cobra.MaximumNArgs(1),
	}
	f.add(c)
	f.addAt(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		roots, at, err := f.read()
		if err != nil {
			return err
		}
		dir, err := folder(args)
		if err != nil {
			return err
		}
		states, err := verifier.Kept(c.Context(), dir, roots, at)
		if err != nil {
			return err
		}
		if len(states) == 0 && !f.asJSON {
			fmt.Fprintf(c.ErrOrStderr(), "cimactl: %s has no documents\n", dir)
			return nil
		}
		return show(c, states, f.asJSON)
	}
	return c
}

func folder(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	return verifier.Folder()
}

func checkCommand() *cobra.Command {
	var f flags
	var dir string
	c := &cobra.Command{
		Use:   "check EVIDENCE",
		Short: "Say whether the documents for some evidence are there and in date",
		Long: `Say whether the documents on the platform of some evidence are there, in date
and signed, in the cache or in a folder for --collateral. Nobody is asked.

Exit status: 0 all are good, 4 one is missing, stale, of another platform or not
signed.`,
		Example: "  cimactl collateral check evidence.json --collateral collateral/",
		Args:    cobra.ExactArgs(1),
	}
	f.add(c)
	f.addAt(c)
	c.Flags().StringVar(&dir, "collateral", "", "`DIR` of files, instead of the cache")
	c.RunE = func(c *cobra.Command, args []string) error {
		roots, at, err := f.read()
		if err != nil {
			return err
		}
		needs, err := needsOf(args[0])
		if err != nil {
			return err
		}
		var source verifier.Source = verifier.Files(dir)
		if dir == "" {
			if dir, err = verifier.Folder(); err != nil {
				return err
			}
			source = verifier.Held(dir)
		}
		var states []verifier.State
		good := false
		for _, one := range needs {
			if good {
				break
			}
			states, good = nil, true
			for _, n := range one {
				s := verifier.StateOf(c.Context(), source, n, roots, at)
				good = good && s.Word == verifier.Good
				states = append(states, s)
			}
		}
		if err := show(c, states, f.asJSON); err != nil || good {
			return err
		}
		fmt.Fprintln(c.ErrOrStderr(), "hint: `cimactl collateral fetch EVIDENCE` gets them anew")
		return command.Exit(command.NotMet)
	}
	return c
}

// show prints states, a line each.
func show(c *cobra.Command, states []verifier.State, asJSON bool) error {
	if asJSON {
		return command.PrintJSON(c, states)
	}
	return command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) {
		for _, s := range states {
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Document, s.Whose(), s.Words())
		}
	})
}
