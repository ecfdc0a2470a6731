package page

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strings"
	"time"
	"unicode"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/card"
	"github.com/cima-project/cima/hw/verify/replay"
)

// maxText bounds the bytes that a page shows of one text of evidence.
const maxText = 64 << 10

type step struct {
	Name, Outcome, Detail string
	State                 state
}

// difference is a value that was expected, and what was seen.
type difference struct{ Step, What, Want, Got string }

type statement struct{ Code, Text string }

type source struct{ Name, File, SHA384, Signed string }

// fact is a label and its text.
type fact struct{ Label, Text string }

// open is what is not proved. Mark is "in the way", "waived" or "".
type open struct{ Text, Code, Mark string }

func (m *model) readCard(c card.Card) {
	m.Wrong, m.Hint = c.Wrong, c.Hint
	for _, f := range c.Facts {
		m.Facts = append(m.Facts, fact{f.Label, f.Text})
	}
	for _, s := range c.Open {
		m.Open = append(m.Open, open{s.Whole, s.Code, s.Mark})
	}
}

func (m *model) readResult(r *verify.Result) {
	for _, s := range r.Steps {
		m.Steps = append(m.Steps, step{plain(s.Name), plain(string(s.Outcome)), long(s.Detail), stateOfStep(&s)})
		for _, c := range s.Compared {
			if s.Outcome == verify.Fail && c.Want != c.Got {
				m.Differ = append(m.Differ, difference{plain(s.Name), long(c.What), long(c.Want), long(c.Got)})
			}
		}
		if s.Name == verify.StepBootValues {
			for _, c := range bootDiffers(r) {
				m.Differ = append(m.Differ, difference{plain(s.Name), long(c.What), long(c.Want), long(c.Got)})
			}
		}
	}
	for _, s := range r.Proved {
		m.Proved = append(m.Proved, statement{plain(s.Code), long(s.Text)})
	}
	for _, s := range r.Policy {
		m.Policies = append(m.Policies, source{plain(s.Name), plain(s.File), s.SHA384.String(), plain(s.SignedBy)})
	}
	m.Verifier, m.Time = plain(r.Verifier), r.Time.UTC().Format(time.RFC3339)
	if r.Claims != nil {
		m.Claims = indented(r.Claims)
	}
}

func stateOfStep(s *verify.Step) state {
	switch s.Outcome {
	case verify.Pass:
		return proved
	case verify.Fail:
		return failed
	}
	return unproved
}

// indented is the JSON of a value, for people.
func indented(v any) string {
	text, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return ""
	}
	return lines(string(text))
}

// long makes text printable, in one line.
func long(text string) string { return replay.Clip(printable(text, false), maxText) }

// lines makes text printable, and keeps its lines.
func lines(text string) string { return replay.Clip(printable(text, true), maxText) }

func printable(text string, keepLines bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || keepLines && r == '\n' {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
