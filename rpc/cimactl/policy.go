package main

import (
	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write and try reference values; convert policies of CIMA 0.5",
		Example: `  cimactl policy init evidence.json >policy.toml
  cimactl policy test policy.toml good/*.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(policyInitCommand(), policyTestCommand(), policyConvertCommand())
	return c
}

func policyInitCommand() *cobra.Command {
	var trust trustFlags
	c := &cobra.Command{
		Use:   "init EVIDENCE",
		Short: "Write a policy from evidence that is known to be good",
		Long: `Write a policy (TOML) that the given evidence meets. The policy is as good as
this evidence: read it, and delete what is not required. Evidence that is not
authentic is refused. Freshness is not checked here.`,
		Example: "  cimactl policy init evidence.json >policy.toml",
		Args:    cobra.ExactArgs(1),
	}
	trust.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := trust.options()
		if err != nil {
			return err
		}
		bundle, err := readEvidence(args[0])
		if err != nil {
			return err
		}
		result, err := appraiseBundle(c.Context(), args[0], bundle, opts)
		if err != nil {
			return collateralFailure(err)
		}
		text, err := verify.InitPolicy(result)
		if err != nil {
			hint := result.Hint
			if hint == "" {
				hint = "`cimactl verify` says which step failed"
			}
			return hinted(err, "%s", hint)
		}
		_, err = c.OutOrStdout().Write(text)
		return err
	}
	return c
}
