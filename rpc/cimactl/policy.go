package main

import (
	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write reference values and try them out; convert policies of CIMA 0.5",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(policyInitCommand(), policyTestCommand(), policyConvertCommand())
	return c
}

func policyInitCommand() *cobra.Command {
	var trust trustFlags
	c := &cobra.Command{
		Use:   "init EVIDENCE",
		Short: "Write a policy from evidence that is known to be good",
		Long: `Write a policy (TOML) that the evidence given meets. It is worth as much as the
one evidence was: read it, and take out what need not be so. Evidence that is
not authentic is refused; that it is fresh, nobody checks here.`,
		Example: "  cimactl policy init evidence.json >policy.toml",
		Args:    cobra.ExactArgs(1),
	}
	trust.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := trust.options()
		if err != nil {
			return err
		}
		bundle, err := readBounded(args[0], maxEvidence)
		if err != nil {
			return err
		}
		result, err := verify.Appraise(c.Context(), bundle, opts)
		if err != nil {
			return networkFailure(err)
		}
		text, err := verify.InitPolicy(result)
		if err != nil {
			return hinted(err, "`cimactl verify` says which step failed")
		}
		_, err = c.OutOrStdout().Write(text)
		return err
	}
	return c
}
