package licenses

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Command is `cimactl licenses`.
func Command() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "licenses",
		Short: "Print the licences of what is linked into the programs",
		Long: `Print whose software is linked into cimad, cimad-sim and cimactl, and the
licences with their whole texts. They go where the programs go.`,
		Example: "  cimactl licenses | less\n  cimactl licenses --json | jq -r '.[] | \"\\(.module) \\(.license)\"'",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		modules, err := linked()
		if err != nil {
			return err
		}
		if asJSON {
			return command.PrintJSON(c, modules)
		}
		return write(c.OutOrStdout(), modules)
	}
	return c
}

// write writes what packaging/licenses.sh writes for a program.
func write(w io.Writer, modules []entry) error {
	for _, m := range modules {
		_, err := fmt.Fprintf(w, "==== %s: %s, in %s\nCopyright %s\n", m.Module, m.License, strings.Join(m.Programs, ", "), strings.Join(m.Copyright, "; "))
		for _, t := range m.Texts {
			if err == nil {
				_, err = fmt.Fprintf(w, "---- %s\n%s\n", t.Name, strings.TrimRight(t.Text, "\n"))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
