package boot

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/computed"
	"github.com/cima-project/cima/hw/verify/dcap"
	bootlog "github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// seen is what --check holds against the prediction.
type seen struct {
	log   *bootlog.Log
	quote *dcap.Quote // nil for a log alone
}

// readSeen reads evidence, or a boot log.
func readSeen(path string) (*seen, error) {
	text, err := command.ReadEvidence(path)
	if err != nil {
		return nil, err
	}
	s := &seen{}
	if head := bytes.TrimLeft(text, " \t\r\n"); len(head) > 0 && head[0] == '{' {
		evidence, _, err := rpc.DecodeEvidence(text)
		if err != nil {
			return nil, malformed(fmt.Errorf("%s: %w", path, err))
		}
		if s.quote, err = dcap.ParseQuote(evidence.Quote); err != nil {
			return nil, malformed(fmt.Errorf("%s: %w", path, err))
		}
		text = evidence.BootLog
	}
	if s.log, err = bootlog.Parse(text); err != nil {
		return nil, malformed(fmt.Errorf("%s: %w", path, err))
	}
	return s, nil
}

// Event is one event of a prediction, or of a comparison, as JSON.
type event struct {
	Register string `json:"register"`
	Number   *int   `json:"number,omitempty"` // in the log
	Type     string `json:"type,omitempty"`   // as the log says it
	Detail   string `json:"detail,omitempty"` // of the log; not proved
	Verdict  string `json:"verdict,omitempty"`
	PCR      int    `json:"pcr"`
	Kind     string `json:"kind,omitempty"`
	Many     bool   `json:"many,omitempty"`
	What     string `json:"what,omitempty"`
	From     string `json:"from,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Is       string `json:"is,omitempty"` // what else it is known to be
	Look     string `json:"look,omitempty"`
}

type report struct {
	MRTD      []string          `json:"mrtd,omitempty"`
	Registers map[string]string `json:"registers"` // those that are known whole
	Line      string            `json:"line,omitempty"`
	Events    []event           `json:"events"`
	Counts    map[string]int    `json:"counts,omitempty"`
	Differ    []string          `json:"differ,omitempty"` // registers of the quote
	Notes     []string          `json:"notes,omitempty"`
}

// describe is a prediction as JSON.
func describe(b *expected.Boot, f *computed.Firmware) report {
	r := report{Registers: make(map[string]string), Line: b.Line, Notes: b.Notes}
	if f != nil {
		for _, v := range f.MRTD {
			r.MRTD = append(r.MRTD, hex.EncodeToString(v.Digest[:]))
		}
	}
	for i, events := range b.Registers {
		name := fmt.Sprint("rtmr", i)
		if value, ok := expected.Value(events); ok {
			r.Registers[name] = hex.EncodeToString(value[:])
		}
		for k := range events {
			e := event{Register: name}
			e.wanted(&events[k])
			r.Events = append(r.Events, e)
		}
	}
	return r
}

func (e *event) wanted(want *expected.Event) {
	e.PCR, e.Kind, e.Many = want.PCR, want.Kind, want.Many
	if want.IsKnown() {
		c := want.Choices[0]
		e.What, e.From, e.Digest = c.What, c.From, hex.EncodeToString(c.Digest[:])
	}
}

// hold holds a log against the prediction.
func (f *flags) hold(c *cobra.Command, b *expected.Boot, firmware *computed.Firmware) error {
	s, err := readSeen(f.check)
	if err != nil {
		return err
	}
	comparison := b.Against(s.log)
	r := describe(b, firmware)
	r.Events, r.Counts = nil, comparison.Counts
	for i := range comparison.Lines {
		r.Events = append(r.Events, eventOf(&comparison.Lines[i]))
	}
	if s.quote != nil {
		r.Differ = differ(s.quote, b, firmware)
	}
	if err := f.print(c, r); err != nil {
		return err
	}
	switch {
	case !comparison.Agrees() || len(r.Differ) > 0:
		return command.Exit(command.Disagrees)
	case comparison.Counts[expected.NotKnown]+comparison.Counts[expected.Recognised] > 0:
		return command.Exit(command.Unknown)
	}
	return nil
}

func eventOf(l *expected.Line) event {
	e := event{Register: fmt.Sprint("rtmr", l.Register), Verdict: l.Verdict}
	if l.Want != nil {
		e.wanted(l.Want)
	}
	if l.Event != nil {
		e.Number, e.Type, e.Detail = &l.Number, bootlog.TypeName(l.Event.Type), l.Event.Detail()
		e.Digest = hex.EncodeToString(l.Event.Digest[:])
	}
	switch {
	case l.Is == nil:
	case l.Verdict == expected.Predicted || l.Verdict == expected.Recognised:
		e.What, e.From = l.Is.What, l.Is.From
	default:
		e.Is = l.Is.What + " of " + l.Is.From
	}
	e.Look = look(l)
	return e
}

// differ compares the quote's registers, whose signature nobody has checked here.
func differ(q *dcap.Quote, b *expected.Boot, f *computed.Firmware) (names []string) {
	got := q.Registers
	if f != nil && got.MRTD != f.MRTD[0].Digest && got.MRTD != f.MRTD[1].Digest {
		names = append(names, fmt.Sprintf("MRTD is %x, computed %x", got.MRTD, f.MRTD[0].Digest))
	}
	for i, events := range b.Registers {
		if value, ok := expected.Value(events); ok && got.RTMR[i] != value {
			names = append(names, fmt.Sprintf("RTMR%d is %x, computed %x", i, got.RTMR[i], value))
		}
	}
	return names
}

func (f *flags) print(c *cobra.Command, r report) error {
	if f.json {
		return command.PrintJSON(c, r)
	}
	return command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) {
		for _, e := range r.Events {
			number, what := "-", e.What
			if e.Number != nil {
				number = fmt.Sprint(*e.Number)
			}
			if e.From != "" {
				what += "  <- " + e.From
			}
			if what == "" {
				what = e.Type + " " + short(e.Detail)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%.12s\t%s\n", number, e.Register, e.Verdict, e.Digest, what)
			if e.Look != "" {
				fmt.Fprintf(w, "\t\t\t\t  look: %s\n", e.Look)
			}
		}
		for _, d := range r.Differ {
			fmt.Fprintf(w, "differs:\t%s\n", d)
		}
		for _, verdict := range []string{expected.Predicted, expected.Recognised, expected.NotKnown, expected.Unlike, expected.Missing, expected.Extra} {
			if n := r.Counts[verdict]; n > 0 {
				fmt.Fprintf(w, "%s:\t%d\n", verdict, n)
			}
		}
	})
}

func short(text string) string {
	if runes := []rune(text); len(runes) > 80 {
		return string(runes[:80]) + "…"
	}
	return text
}
