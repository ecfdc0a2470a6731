//go:build linux

package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func doctorCommand() *cobra.Command {
	var report bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what the hardware offers and what is missing (on the host)",
		Long: `Show what cimad would use on this machine: quotes, registers, extends and the
boot log. It prints what was found, what cimad would choose, and what to do
about missing things. It makes no quote and changes nothing. Run it as root.

Exit status: 0 if evidence anchored in RTMR3 can be had, 1 if not.`,
		Example: "  sudo cimactl doctor",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&report, "json", false, "print JSON")
	c.Flags().BoolVar(&report, "report", false, "the same, for a bug report")
	c.RunE = func(c *cobra.Command, _ []string) error {
		found := hw.NewTDX(hw.TDXOptions{}).Probe(c.Context())
		if report {
			if err := command.PrintJSON(c, found); err != nil {
				return err
			}
		} else if err := command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) { printProbe(w, found) }); err != nil {
			return err
		}
		if found.Quote == "" || found.Registers == "" || found.Extend == "" || found.BootLog == "" {
			return command.Hinted(errors.New("cimad can't give evidence anchored in RTMR3 on this machine"),
				"the lines marked with - say what to do; to try CIMA without hardware, use cimad-sim")
		}
		return nil
	}
	return c
}

func printProbe(w *tabwriter.Writer, found hw.Report) {
	command.Row(w, "kernel", found.Kernel)
	for _, check := range found.Checks {
		mark := "-"
		if check.OK {
			mark = "+"
		}
		fmt.Fprintf(w, "%s %s\t%s\n", mark, check.Name, check.Found)
		if !check.OK && check.Advice != "" {
			fmt.Fprintf(w, "\t  %s\n", check.Advice)
		}
	}
	for _, chosen := range []struct{ what, by string }{
		{"quotes", found.Quote}, {"registers", found.Registers}, {"extends", found.Extend}, {"boot log", found.BootLog},
	} {
		by := chosen.by
		if by == "" {
			by = "none"
		}
		command.Row(w, chosen.what, by)
	}
}
