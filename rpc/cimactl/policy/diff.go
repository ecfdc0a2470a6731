package policy

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/policydiff"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func diffCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what a change of a policy trusts more, and what less",
		Long: `Compare two policies by meaning. Each line says what the new one trusts that the
old one doesn't (more), what it trusts no more (less), what is another thing
(other), or what only people see (words). Order and comments don't count. "-"
reads one of them from stdin.

Exit status: 0 nothing else is trusted than before; 4 more, or something else,
is trusted.`,
		Example: "  git show HEAD:policy.toml | cimactl policy diff - policy.toml",
		Args:    cobra.ExactArgs(2),

		ValidArgsFunction: command.Files([]string{"toml"}, []string{"toml"}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the changes as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if args[0] == "-" && args[1] == "-" {
			return fmt.Errorf("OLD and NEW must not both come from stdin")
		}
		var texts [2][]byte
		for i, path := range args {
			var err error
			if texts[i], err = command.ReadBounded(path, command.MaxPolicy); err != nil {
				return err
			}
		}
		changes, err := policydiff.Diff(args[0], texts[0], args[1], texts[1])
		if err != nil {
			return err
		}
		if err := printChanges(c, changes, asJSON); err != nil {
			return err
		}
		for _, ch := range changes {
			if ch.Effect == policydiff.More || ch.Effect == policydiff.Other {
				return command.Exit(command.NotMet)
			}
		}
		return nil
	}
	return c
}

func printChanges(c *cobra.Command, changes []policydiff.Change, asJSON bool) error {
	if asJSON {
		return command.PrintJSON(c, changes)
	}
	return command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) {
		for _, ch := range changes {
			fmt.Fprintf(w, "%s\t%s\t%s\n", ch.Effect, replay.Printable(ch.Where), replay.Printable(ch.What))
		}
	})
}
