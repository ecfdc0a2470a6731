package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
)

// maxEvidence bounds the bytes of a bundle.
const maxEvidence = 16 << 20

func verifyCommand() *cobra.Command {
	var nonce, userData string
	var policies []string
	var files logFiles
	var trust trustFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify {EVIDENCE --nonce HEX | --quote FILE}",
		Short: "Appraise evidence: is it true, and is it what was expected?",
		Long: `Appraise evidence, offline. "-" reads it from stdin. With --quote it appraises
another system's evidence: a quote, and the logs that explain its registers.

Exit status: 0 trusted, 2 not authentic, 4 authentic but the policy is not met
or nothing says who wrote what was booted, 5 malformed, 3 the network, 1 any
other error.`,
		Example: `  cimactl verify evidence.json --nonce "$NONCE" --policy policy.toml
  cimactl verify --quote quote.bin --boot-log ccel.bin`,
		Args: cobra.MaximumNArgs(1),
	}
	files.flags(c)
	trust.flags(c)
	c.Flags().StringVar(&nonce, "nonce", "", "the `HEX` that you sent; - reads a line of stdin")
	c.Flags().StringVar(&userData, "user-data", "", "`FILE` with the user data that must be bound")
	c.Flags().StringArrayVar(&policies, "policy", nil, "`FILE` of reference values; a second has revocations")
	c.Flags().BoolVar(&asJSON, "json", false, "print the attestation result as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := files.fit(args); err != nil {
			return err
		}
		if len(args) > 0 && args[0] == "-" && nonce == "-" {
			return errors.New("evidence and nonce must not both come from stdin")
		}
		opts, err := trust.options()
		if err != nil {
			return err
		}
		if nonce != "" || files.quote == "" {
			if nonce == "" {
				return hinted(errNoNonce, "give the one that you sent as --nonce HEX; `cimactl policy test` takes evidence with whatever nonce it has, and says nothing of its age")
			}
			if opts.Nonce, err = readNonce(nonce, c.InOrStdin()); err != nil {
				return err
			}
		}
		if err := readWanted(&opts, userData, policies); err != nil {
			return err
		}
		result, err := appraise(c, args, &files, opts)
		if err != nil {
			return collateralFailure(err)
		}
		if err := printResult(c, result, asJSON); err != nil {
			return err
		}
		if code := result.Verdict.ExitCode(); code != 0 {
			return exitCode(code)
		}
		return nil
	}
	return c
}

// fit checks that the arguments name one thing to appraise.
func (p *logFiles) fit(args []string) error {
	if len(args) == 1 && *p != (logFiles{}) {
		return errors.New("EVIDENCE and --quote must not both be given: evidence has its own quote and logs")
	}
	if len(args) == 0 && p.quote == "" {
		return hinted(errors.New("nothing to verify is given"), "give a file with EVIDENCE, or --quote FILE; logs without a quote are for `cimactl replay`")
	}
	return nil
}

func appraise(c *cobra.Command, args []string, files *logFiles, opts verify.Options) (*verify.Result, error) {
	if len(args) == 0 {
		f, err := files.read()
		if err != nil {
			return nil, err
		}
		return verify.AppraiseQuote(c.Context(), f, opts)
	}
	bundle, err := readEvidence(args[0])
	if err != nil {
		return nil, err
	}
	return appraiseBundle(c.Context(), args[0], bundle, opts)
}

// appraiseBundle appraises the bundle in a file. If the file holds something else that
// has to do with evidence, the hint says so.
func appraiseBundle(ctx context.Context, path string, bundle []byte, opts verify.Options) (*verify.Result, error) {
	result, err := verify.Appraise(ctx, bundle, opts)
	if err == nil && result.Verdict == verify.Malformed {
		if hint := insteadOfEvidence(path, bundle); hint != "" {
			result.Hint = hint
		}
	}
	return result, err
}

// readWanted reads what the evidence is compared with.
func readWanted(opts *verify.Options, userData string, policies []string) (err error) {
	opts.Verifier = "cimactl " + version
	if userData != "" {
		b, err := readUserData(userData)
		if err != nil {
			return err
		}
		opts.UserData = &b
	}
	switch len(policies) {
	case 0:
		return nil
	case 1, 2:
	default:
		return errors.New("--policy must be given at most twice: a policy, and a file of revocations")
	}
	if opts.Policy, err = policy.Load(policies[0], policies[1:]...); err != nil {
		return hinted(err, "cima-policy(5) has examples; `cimactl policy init EVIDENCE` writes a policy to begin with")
	}
	return nil
}

func printResult(c *cobra.Command, r *verify.Result, asJSON bool) error {
	if !asJSON {
		return r.WriteTable(c.OutOrStdout())
	}
	return printJSON(c, r)
}
