package command

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// RefuseEmpty refuses flags that are given and empty: without the flag less is checked,
// and that is not what the user wants.
func RefuseEmpty(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			err = Hinted(fmt.Errorf("--%s is given and must not be empty", f.Name), "is a variable of the shell not set?")
		}
	})
	return err
}

// ExplainArguments lets a command and its subcommands say in plain words what is wrong
// with their arguments.
func ExplainArguments(c *cobra.Command) {
	fits := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if fits(c, args) == nil {
			return nil
		}
		if c.HasSubCommands() {
			return Usage(c, fmt.Errorf("unknown command %q", args[0]))
		}
		given := "none given"
		if len(args) > 0 {
			given = fmt.Sprintf("%d given, %q", len(args), args)
		}
		return Usage(c, fmt.Errorf("wrong number of arguments, %s; it must be: %s", given, c.UseLine()))
	}
	for _, below := range c.Commands() {
		ExplainArguments(below)
	}
}
