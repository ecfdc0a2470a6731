package verify

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WriteTable writes the result for people: a line per step, then in plain
// words what was proved and what was not.
func (r *Result) WriteTable(w io.Writer) error {
	var b strings.Builder
	width := 0
	for _, s := range r.Steps {
		width = max(width, len(s.Name))
	}
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", s.Outcome, width, s.Name, Printable(s.Detail))
		if s.Outcome == Fail {
			writeCompared(&b, width, s.Compared)
		}
	}
	section(&b, "proved", r.Proved)
	section(&b, "not proved", r.NotProved)
	fmt.Fprintf(&b, "\n%s", r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(&b, ": %s", Printable(r.Reason))
	}
	b.WriteByte('\n')
	if r.Hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", r.Hint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCompared shows the pairs that differ.
func writeCompared(b *strings.Builder, width int, compared []Comparison) {
	for _, c := range compared {
		if c.Want != c.Got {
			fmt.Fprintf(b, "%*s%s: want %s\n", width+8, "", Printable(c.What), Printable(c.Want))
			fmt.Fprintf(b, "%*s%s  got  %s\n", width+8, "", strings.Repeat(" ", utf8.RuneCountInString(c.What)), Printable(c.Got))
		}
	}
}

// Printable keeps what others wrote from steering a terminal, or filling it.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
	return clip(s, 400)
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  - %s\n", Printable(l))
	}
}
