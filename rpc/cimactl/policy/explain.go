package policy

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func explainCommand() *cobra.Command {
	var try trial
	c := &cobra.Command{
		Use:   "explain POLICY EVIDENCE",
		Short: "Say why evidence meets a policy or doesn't, fact by fact",
		Long: `Say which boot and which container of a policy fit the evidence, or which come
nearest and in what they differ; and what is not proved, with the word that
would waive it. Freshness is not checked.

Exit status: as that of "policy test".`,
		Example: "  cimactl policy explain policy.toml evidence.json",
		Args:    cobra.ExactArgs(2),

		ValidArgsFunction: command.Files([]string{"toml"}, []string{"json"}),
	}
	try.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := try.options(c, args[0])
		if err != nil {
			return err
		}
		r, err := withOwnNonce(c, args[1], opts)
		if err != nil {
			return appraise.CollateralFailure(err)
		}
		if _, err := io.WriteString(c.OutOrStdout(), explanation(r)); err != nil || r.ExitCode == 0 {
			return err
		}
		return command.Exit(r.ExitCode)
	}
	return c
}

// ofPolicy are the steps that hold evidence against a policy.
var ofPolicy = []string{verify.StepTCB, verify.StepPolicy, verify.StepTD, verify.StepBootValues, verify.StepCallerValues, verify.StepPower, verify.StepEvents}

// explanation writes what each rule of the policy came to.
func explanation(r *verify.Result) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s: %s", r.Verdict, replay.Printable(r.Reason))
	if r.Boot != nil {
		line("boot: %s", replay.Printable(r.Boot.Name))
	}
	if r.Container != nil {
		line("container: %s", replay.Printable(r.Container.Name))
	}
	for _, s := range r.Steps {
		if !slices.Contains(ofPolicy, s.Name) && s.Outcome != verify.Fail {
			continue
		}
		line("\n%s: %s: %s", s.Name, s.Outcome, replay.Printable(s.Detail))
		for _, f := range s.Compared {
			switch {
			case f.Want == f.Got:
				line("  same    %s: %s", replay.Printable(f.What), replay.Printable(f.Got))
			case s.Outcome == verify.Pass:
				line("  met     %s: %s, by %s", replay.Printable(f.What), replay.Printable(f.Want), replay.Printable(f.Got))
			default:
				line("  differs %s\n    want %s\n    got  %s", replay.Printable(f.What), replay.Printable(f.Want), replay.Printable(f.Got))
			}
		}
	}
	if len(r.NotProved) > 0 {
		line("\nnot proved:")
	}
	for _, s := range r.NotProved {
		switch {
		case s.Waived:
			line("  waived     %s: %s", s.Code, replay.Printable(s.Text))
		case s.Stands:
			line("  in the way %s: %s", s.Code, replay.Printable(s.Text))
		default:
			line("  told       %s: %s", s.Code, replay.Printable(s.Text))
		}
	}
	if r.Hint != "" {
		line("hint: %s", r.Hint)
	}
	return b.String()
}
