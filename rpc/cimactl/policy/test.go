package policy

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func testCommand() *cobra.Command {
	var try trial
	c := &cobra.Command{
		Use:   "test POLICY EVIDENCE…",
		Short: "Say which evidence meets a policy",
		Long: `Appraise evidence from files against a policy, to try the policy. Freshness is
not checked: each file is appraised with its own nonce.

Exit status: 0 all meet the policy, 4 some do not, 2 or 5 if one is not
authentic or malformed; 1 if a file can't be read: later ones are not appraised.`,
		Example: "  cimactl policy test policy.toml good/*.json",
		Args:    cobra.MinimumNArgs(2),

		ValidArgsFunction: command.Files([]string{"toml"}, []string{"json"}),
	}
	try.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := try.options(c, args[0])
		if err != nil {
			return err
		}
		worst := 0
		var failed error // of the appraisal, not of writing the table
		err = command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) {
			for _, path := range args[1:] {
				var code int
				if code, failed = testPolicy(c, w, path, opts); failed != nil {
					return
				}
				worst = appraise.Worse(worst, code)
			}
		})
		if failed != nil {
			return appraise.CollateralFailure(failed)
		}
		if err != nil {
			return err
		}
		if worst != 0 {
			return command.Exit(worst)
		}
		return nil
	}
	return c
}

// trial holds the flags of a policy that is tried on evidence.
type trial struct {
	trust       appraise.Trust
	wanted      appraise.Wanted
	revocations string
}

func (t *trial) flags(c *cobra.Command) {
	t.trust.Flags(c)
	t.wanted.Flags(c)
	c.Flags().StringVar(&t.revocations, "revocations", "", "a second `FILE`, of revocations")
}

// options are those of an appraisal against a policy in a file.
func (t *trial) options(c *cobra.Command, policy string) (verify.Options, error) {
	opts, err := t.trust.Options(c)
	if err != nil {
		return opts, err
	}
	t.wanted.Policies = []string{policy}
	if t.revocations != "" {
		t.wanted.Policies = append(t.wanted.Policies, t.revocations)
	}
	return opts, t.wanted.Read(c, &opts)
}

// withOwnNonce appraises evidence in a file with the nonce that it has.
func withOwnNonce(c *cobra.Command, path string, opts verify.Options) (*verify.Result, error) {
	bundle, err := command.ReadEvidence(path)
	if err != nil {
		return nil, err
	}
	if _, claims, err := rpc.DecodeEvidence(bundle); err == nil {
		opts.Nonce = claims.Nonce
	}
	return appraise.Bundle(c.Context(), path, bundle, opts)
}

// testPolicy appraises one file and prints a line.
func testPolicy(c *cobra.Command, w *tabwriter.Writer, path string, opts verify.Options) (int, error) {
	result, err := withOwnNonce(c, path, opts)
	if err != nil {
		return 0, err
	}
	word, reason := "meets", ""
	if result.Verdict != verify.Trusted {
		word, reason = "FAILS", string(result.Verdict)+": "+result.Reason
	}
	fmt.Fprintf(w, "%s\t%s\t%s\n", word, path, replay.Printable(reason))
	return result.ExitCode, nil
}
