// Package replay answers: how does one replay logs from the command line?
package replay

import (
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/page"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// maxLog bounds the bytes of a log.
const maxLog = 1 << 30

// Command is `cimactl replay`.
func Command() *cobra.Command {
	var logs Logs
	var quiescent, asJSON bool
	var html string
	c := &cobra.Command{
		Use:   "replay",
		Short: "Replay event logs to the registers that they explain",
		Long: `Replay event logs, of this system or another, to RTMR0-3 and IMA's PCR 10, and
compare them with a quote or TDREPORT. The quote's signature is not checked:
"cimactl verify --quote" does that.

Exit status: 0 all that was compared agrees, 2 something disagrees, 5 a file is
not of the kind that it must be, 1 any other error.`,
		Example: "  cimactl replay --boot-log ccel.bin --quote quote.bin",
		Args:    cobra.NoArgs,
	}
	logs.Flags(c)
	c.Flags().StringVar(&logs.report, "tdreport", "", "`FILE` with a TDREPORT to compare with")
	c.Flags().BoolVar(&quiescent, "no-events", false, "print the registers, not the events")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&html, "html", "", "write them to `FILE`, as a page to look at")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if logs.Quote != "" && logs.report != "" {
			return command.Usage(c, errors.New("--quote and --tdreport must not both be given: the registers are compared with one of them"))
		}
		files, err := logs.Read()
		if err != nil {
			return err
		}
		if files.BootLog == nil && files.IMALog == nil && files.RuntimeLog == nil {
			return command.Hinted(errors.New("a log must be given"), "give --boot-log, --ima-log or --runtime-log; the boot log is /sys/firmware/acpi/tables/data/CCEL")
		}
		if html == "-" {
			return errors.New("--html must name a file: the registers are printed on stdout")
		}
		if html != "" {
			shown, err := page.OfLogs(logs.title(), files)
			if err != nil {
				return &command.Failure{Err: err, Code: command.Malformed, Hint: replayHint(files.RuntimeLog)}
			}
			if err := command.WritePage(html, shown); err != nil {
				return err
			}
		}
		return printReplay(c, files, asJSON, quiescent || asJSON)
	}
	return c
}

// Logs are the names of files, from flags.
type Logs struct{ Quote, report, boot, ima, runtime string }

// Flags adds the flags of a quote and its logs to a command.
func (p *Logs) Flags(c *cobra.Command) {
	c.Flags().StringVar(&p.boot, "boot-log", "", "`FILE` with the boot log (CCEL)")
	c.Flags().StringVar(&p.ima, "ima-log", "", "`FILE` with the IMA log, ascii or binary")
	c.Flags().StringVar(&p.runtime, "runtime-log", "", "`FILE`: cimad's runtime.log, CEL-JSON or AAEL records")
	c.Flags().StringVar(&p.Quote, "quote", "", "`FILE` with a quote")
}

// title names the files.
func (p *Logs) title() string {
	var names []string
	for _, name := range []string{p.boot, p.ima, p.runtime, p.Quote, p.report} {
		if name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Read reads the files that are named.
func (p *Logs) Read() (f replay.Files, err error) {
	for _, one := range []struct {
		path string
		to   *[]byte
		most int64
	}{
		{p.Quote, &f.Quote, 1 << 20}, {p.report, &f.TDReport, 1 << 20},
		{p.boot, &f.BootLog, command.MaxEvidence}, {p.ima, &f.IMALog, maxLog}, {p.runtime, &f.RuntimeLog, maxLog},
	} {
		if one.path == "" {
			continue
		}
		if *one.to, err = command.ReadBounded(one.path, one.most); err != nil {
			return f, err
		}
		if *one.to == nil {
			*one.to = []byte{}
		}
	}
	return f, nil
}

// replayed is the JSON form of a replay.
type replayed struct {
	Registers     map[string]string `json:"registers"`
	PCR10Bank     string            `json:"pcr10_bank,omitempty"`
	Events        int64             `json:"events"`
	Violations    int64             `json:"violations"`
	Skipped       int64             `json:"skipped"`
	Mismatched    int64             `json:"mismatched"`
	Match         map[string]bool   `json:"match,omitempty"`
	LastAgreement *int              `json:"last_agreement,omitzero"` // runtime events
	Disagreement  string            `json:"disagreement,omitempty"`
}

func printReplay(c *cobra.Command, files replay.Files, asJSON, withoutEvents bool) error {
	var each func(replay.Event)
	out := c.OutOrStdout()
	events := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !withoutEvents {
		rows := 0
		each = func(e replay.Event) {
			fmt.Fprintf(events, "%s %d\t%s\t%s\t%.24s…\t%s\n", e.Log, e.Number, e.Register, e.Type, hex.EncodeToString(e.Digest), e.Detail)
			if rows++; rows%1000 == 0 { // a tabwriter keeps all that it has not flushed
				events.Flush()
			}
		}
	}
	r, err := replay.Run(files, each)
	if err != nil {
		return &command.Failure{Err: err, Code: command.Malformed, Hint: replayHint(files.RuntimeLog)}
	}
	if err := events.Flush(); err != nil {
		return err
	}
	form := replayed{Registers: map[string]string{}, Events: int64(r.BootEvents+r.RuntimeEvents) + r.IMAEntries,
		Violations: r.IMAViolations, Skipped: r.Skipped, Mismatched: r.Mismatched, Disagreement: r.Disagreement()}
	for i, v := range r.Registers {
		form.Registers[fmt.Sprintf("rtmr%d", i)] = hex.EncodeToString(v[:])
	}
	if r.PCR10 != nil {
		form.Registers["pcr10"], form.PCR10Bank = hex.EncodeToString(r.PCR10), r.PCR10Alg.String()
	}
	agrees := form.Disagreement == "" && r.Mismatched == 0
	var matches []replay.Match
	if n, known := r.LastAgreement(nil); known {
		form.LastAgreement = &n
	}
	if files.Quote != nil || files.TDReport != nil {
		quoted, err := files.UnverifiedRegisters()
		if err != nil {
			return &command.Failure{Err: err, Code: command.Malformed}
		}
		matches = r.Against(quoted)
		form.LastAgreement = nil
		if n, known := r.LastAgreement(&quoted.RTMR[3]); known {
			form.LastAgreement = &n
		}
		form.Match = map[string]bool{}
		for _, m := range matches {
			form.Registers[m.Name] = m.Replayed.String()
			if !m.NothingKnown {
				form.Match[m.Name] = m.Agrees
				agrees = agrees && m.Agrees
			}
		}
	}
	if asJSON {
		err = command.PrintJSON(c, form)
	} else {
		against := "quote"
		if files.Quote == nil {
			against = "TDREPORT"
		}
		err = printRegisters(out, form, matches, against, r)
	}
	if err == nil && !agrees {
		err = command.Exit(command.Disagrees)
	}
	return err
}

// replayHint says what to do if a log can't be read.
func replayHint(runtime []byte) string {
	var bundle struct {
		Log jsontext.Value `json:"runtime_log"`
	}
	if len(runtime) <= command.MaxEvidence && json.Unmarshal(runtime, &bundle) == nil && bundle.Log != nil {
		return "this is evidence and no log: `cimactl convert EVIDENCE --format cel >log.cel` makes a log of its events"
	}
	return "check that each flag has the right kind of file; a log that can't be read whole is not compared"
}

// printRegisters prints a table for people. against is what the registers were compared
// with.
func printRegisters(out io.Writer, form replayed, matches []replay.Match, against string, r *replay.Replayed) error {
	return command.Table(out, func(w *tabwriter.Writer) {
		for i := range 4 {
			name := fmt.Sprintf("rtmr%d", i)
			word := ""
			if matches != nil {
				word = matchWord(matches[i])
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", name, form.Registers[name], word)
			if matches != nil && !matches[i].Agrees && !matches[i].NothingKnown {
				fmt.Fprintf(w, "\t%s\tis in the %s\n", matches[i].Quoted, against)
			}
		}
		if r.PCR10 != nil {
			fmt.Fprintf(w, "pcr10\t%s\t%s\n", form.Registers["pcr10"], form.PCR10Bank)
		}
		fmt.Fprintf(w, "events\t%d\n", form.Events)
		for _, n := range []struct {
			what string
			n    int64
		}{{"violations", form.Violations}, {"skipped", form.Skipped}, {"template hashes wrong", form.Mismatched}} {
			if n.n > 0 {
				fmt.Fprintf(w, "%s\t%d\n", n.what, n.n)
			}
		}
		if n := form.LastAgreement; n != nil {
			fmt.Fprintf(w, "agreement\tthe first %d of %d runtime events give RTMR3\n", *n, r.RuntimeEvents)
		}
		if form.Disagreement != "" {
			fmt.Fprintf(w, "disagreement\t%s\n", form.Disagreement)
		}
	})
}

func matchWord(m replay.Match) string {
	switch {
	case m.NothingKnown:
		return "not compared: no log is about it"
	case m.WithoutIMA:
		return "agrees without IMA's entries: nothing proves those"
	case m.Agrees:
		return "agrees"
	}
	return "DISAGREES"
}
