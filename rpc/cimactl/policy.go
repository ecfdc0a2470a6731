package main

import (
	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write reference values",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(policyInitCommand())
	return c
}

func policyInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init EVIDENCE",
		Short: "Write a policy from evidence that is known to be good",
		Long: `Write a policy (TOML) that the evidence given meets. It is worth as much as the
one evidence was: read it, and take out what need not be so.`,
		Example: "  cimactl policy init evidence.json >policy.toml",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			bundle, err := readBounded(args[0], maxEvidence)
			if err != nil {
				return err
			}
			text, err := verify.InitPolicy(bundle)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}
