package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func eventlogCommand() *cobra.Command {
	var asJSON bool
	var start int
	c := &cobra.Command{
		Use:   "eventlog",
		Short: "Print the event log: the boot's events, then the caller's own",
		Long: `Print the event log in the view of CIMA 0.5: index 0-2 are RTMR0-2, index 3 is
the caller's container register. This is the daemon's word; whether it is true,
"cimactl verify" shows from evidence.`,
		Example: "  cimactl eventlog --start 40",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, all pages in one")
	c.Flags().IntVar(&start, "start", 0, "first `RECORD` to print")
	waitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := client(c)
		if err != nil {
			return err
		}
		defer d.Close()
		all := rpc.CCEventLog{Events: []rpc.EventRecord{}}
		for next := start; ; next = all.Next {
			page, err := retry(c, d, func() (rpc.CCEventLog, error) {
				return d.GetCCEventLog(c.Context(), rpc.CCEventLogParams{Start: next})
			})
			if err != nil {
				return err
			}
			all.Events = append(all.Events, page.Events...)
			all.Total, all.Next = page.Total, page.Next
			if all.Next == 0 {
				break
			}
		}
		if asJSON {
			return command.PrintJSON(c, all)
		}
		return command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) {
			for _, r := range all.Events {
				printRecord(w, r)
			}
		})
	}
	return c
}

func printRecord(w *tabwriter.Writer, r rpc.EventRecord) {
	register := fmt.Sprintf("rtmr%d", r.IMRIndex)
	what := boot.TypeName(r.EventType)
	if r.IMRIndex == 3 {
		register = "container"
		var measured map[string]jsontext.Value
		if json.Unmarshal(r.Event, &measured) == nil {
			for operation := range measured {
				what = operation
			}
		}
	}
	for _, digest := range r.Digests {
		fmt.Fprintf(w, "%d\t%s\t%s\t%.24s…\t%d bytes\n", r.RecNum, register, what, fmt.Sprintf("%x", []byte(digest.Hash)), r.EventSize)
	}
}

func reportCommand() *cobra.Command {
	var nonce, userData string
	var shared bool
	c := &cobra.Command{
		Use:   "report --nonce HEX",
		Short: "Get a quote and the claims it is bound to, without the logs",
		Long: `Get a quote, the claims that it is bound to and the agent's signature, as JSON.
"cimactl evidence" adds the logs, which a relying party needs to appraise it.`,
		Example: `  cimactl report --nonce "$NONCE" | jq -r .cc_report | base64 -d >quote.bin`,
		Args:    cobra.NoArgs,
	}
	nonceFlags(c, &nonce, &userData)
	sharedFlag(c, &shared)
	waitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		n, data, err := bound(c, nonce, userData)
		if err != nil {
			return err
		}
		d, err := client(c)
		if err != nil {
			return err
		}
		defer d.Close()
		return printRaw(c, d, rpc.MethodGetCCReport, rpc.CCReportParams{Nonce: n, UserData: data, Shared: shared})
	}
	return c
}
