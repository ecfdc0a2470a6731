package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/form"
)

func convertCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "convert EVIDENCE --format FORM",
		Short: "Write evidence in another form",
		Long: `Write evidence in another form:
` + strings.Join(form.Names, ", ") + `.
The form of EVIDENCE is recognised; "-" reads it from stdin. Trustee's forms and
the event logs (cel) do not hold all of it, so they can't be converted. Nothing
is appraised here.`,
		Example: "  cimactl convert evidence.json --format trustee-request >request.json",
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: command.OneFile("json", "cmw", "cbor"),
	}
	c.Flags().StringVar(&to, "format", form.CIMA, "`FORM` to write")
	completeForms(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkForm(to); err != nil {
			return err
		}
		data, err := command.ReadEvidence(args[0])
		if err != nil {
			return err
		}
		content, err := form.Decode(data)
		if err != nil {
			return &command.Failure{Err: fmt.Errorf("%s: %w", args[0], err), Code: command.Malformed}
		}
		if content.Evidence == nil && content.Form == to {
			_, err = c.OutOrStdout().Write(data)
			return err
		}
		if content.Evidence == nil {
			return command.Hinted(fmt.Errorf("%s is in the form %s, which does not hold all that %s needs", args[0], content.Form, to),
				"convert the output of `cimactl evidence`")
		}
		return writeForm(c, content.Evidence, to)
	}
	return c
}

func writeForm(c *cobra.Command, e *rpc.Evidence, to string) error {
	text, err := form.Encode(e, to)
	if err != nil {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' && to != form.CMWCBOR && to != form.CELTLV {
		text = append(text, '\n')
	}
	_, err = c.OutOrStdout().Write(text)
	return err
}

// completeForms completes --format.
func completeForms(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(form.Names, cobra.ShellCompDirectiveNoFileComp))
}

// checkForm refuses an unknown form before the daemon is asked.
func checkForm(name string) error {
	if slices.Contains(form.Names, name) {
		return nil
	}
	return command.Hinted(fmt.Errorf("unknown form %q", name), "a form must be one of %s", strings.Join(form.Names, ", "))
}
