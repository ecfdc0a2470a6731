//go:build linux

package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/pcr"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func doctorCommand() *cobra.Command {
	var report bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what the hardware offers and what is missing (on the host)",
		Long: `Show which platform this machine is, and why; and what cimad would use on it:
quotes, registers, extends and the boot log. It prints what was found, what
cimad would choose, and what to do about missing things. It makes no quote and
changes nothing. Run it as root.

Exit status: 0 if evidence with the platform's best anchor can be had, 1 if not.`,
		Example: "  sudo cimactl doctor",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&report, "json", false, "print JSON")
	c.Flags().BoolVar(&report, "report", false, "the same, for a bug report")
	c.RunE = func(c *cobra.Command, _ []string) error {
		found := hw.Diagnose(c.Context(), hw.Options{PCR: pcr.Default})
		if report {
			if err := command.PrintJSON(c, found); err != nil {
				return err
			}
		} else if err := command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) { printProbe(w, found) }); err != nil {
			return err
		}
		if found.Quote == "" || found.Registers == "" || found.Extend == "" || found.BootLog == "" {
			return command.Hinted(fmt.Errorf("cimad can't give evidence anchored in %s on this machine", bestAnchor(found.Platform)),
				"the lines marked with - say what to do; to try CIMA without hardware, use cimad-sim")
		}
		return nil
	}
	return c
}

// bestAnchor is what would hold the log.
func bestAnchor(platform string) string {
	switch platform {
	case hw.TEESNP:
		return "report data"
	case hw.TEEAzureTDX, hw.TEEAzureSNP:
		return "a PCR"
	}
	return "RTMR3"
}

func printProbe(w *tabwriter.Writer, found hw.Report) {
	platform := found.Platform
	if platform == "" {
		platform = "none"
	}
	command.Row(w, "platform", platform+": "+found.Why)
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
