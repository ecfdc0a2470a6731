// Package policy answers: how does one write and try a policy from the command line?
package policy

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Command is `cimactl policy`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write and try reference values; convert policies of CIMA 0.5",
		Example: `  cimactl policy init evidence.json >policy.toml
  cimactl policy test policy.toml good/*.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(initCommand(), testCommand(), explainCommand(), diffCommand(), convertCommand())
	return c
}

func initCommand() *cobra.Command {
	var trust appraise.Trust
	var waive []string
	c := &cobra.Command{
		Use:   "init EVIDENCE…",
		Short: "Write a policy from evidence that is known to be good",
		Long: `Write a policy (TOML) from evidence: each value is what was seen, and nobody
vouches for it. Power is not allowed, starts that were missed are forbidden, and
what is not proved is not waived, unless you name it with --waive. Evidence that
is not authentic is refused. Freshness is not checked here.`,
		Example: "  cimactl policy init evidence.json >policy.toml",
		Args:    cobra.MinimumNArgs(1),

		ValidArgsFunction: command.Files([]string{"json"}),
	}
	trust.Flags(c)
	c.Flags().StringSliceVar(&waive, "waive", nil, "`CODE` of what is accepted without proof (cima-policy(5))")
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := trust.Options(c)
		if err != nil {
			return err
		}
		var results []*verify.Result
		for _, path := range args {
			bundle, err := command.ReadEvidence(path)
			if err != nil {
				return err
			}
			result, err := appraise.Bundle(c.Context(), path, bundle, opts)
			if err != nil {
				return appraise.CollateralFailure(err)
			}
			results = append(results, result)
		}
		text, notes, err := verify.InitPolicy(results, waive)
		if err != nil {
			return command.Hinted(err, "%s", hintOf(results))
		}
		for _, n := range notes {
			fmt.Fprintln(c.ErrOrStderr(), "cimactl: note:", replay.Printable(n))
		}
		_, err = c.OutOrStdout().Write(text)
		return err
	}
	return c
}

// hintOf is the first hint of some results.
func hintOf(results []*verify.Result) string {
	for _, r := range results {
		if r.Hint != "" && (r.Verdict == verify.NotAuthentic || r.Verdict == verify.Malformed) {
			return r.Hint
		}
	}
	return "`cimactl verify` says which step failed"
}
