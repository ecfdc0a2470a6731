package card

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Sizes of a card on a terminal.
const (
	maxLines = 10
	maxWrong = 3   // lines
	columns  = 100 // where what is not proved is broken; other lines are as long as they are
	indent   = 12
)

// Write writes the card as text: at most ten lines, the verdict first.
func (c Card) Write(w io.Writer) error {
	var lines []string
	add := func(label, text string) { lines = append(lines, fmt.Sprintf("%-*s%s", indent, label, text)) }

	head := string(c.Verdict)
	if c.Under != "" {
		head += ", " + c.Under
	}
	lines = append(lines, head)
	for i, text := range c.Wrong {
		if left := len(c.Wrong) - i; i == maxWrong-1 && left > 1 {
			var names []string
			for _, other := range c.Wrong[i:] {
				name, _, _ := strings.Cut(other, ": ")
				names = append(names, name)
			}
			add("wrong", fmt.Sprintf("and %d more steps: %s (--verbose)", left, strings.Join(names, ", ")))
			break
		}
		add("wrong", text)
	}
	if c.Hint != "" {
		lines = append(lines, "hint: "+c.Hint)
	}
	for _, f := range c.Facts {
		add(f.Label, f.Text)
	}
	for i, text := range broken(c.Open, maxLines-len(lines)) {
		label := ""
		if i == 0 {
			label = "not proved"
		}
		add(label, text)
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func (s Statement) String() string {
	if s.Mark != "" {
		return fmt.Sprintf("%s (%s, %s)", s.text, s.Code, s.Mark)
	}
	return fmt.Sprintf("%s (%s)", s.text, s.Code)
}

// broken puts statements into at most so many lines, none broken itself. The last line
// says how many found no place.
func broken(list []Statement, most int) (lines []string) {
	line := ""
	for i, s := range list {
		text, last := s.String(), i == len(list)-1
		if !last {
			text += ";"
		}
		room := columns - indent
		if len(lines) == most-1 && !last {
			room -= len(" and 99 more (--verbose)")
		}
		switch {
		case line == "":
			line = text
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(text) <= room:
			line += " " + text
		case len(lines) == most-1:
			return append(lines, fmt.Sprintf("%s and %d more (--verbose)", line, len(list)-i))
		default:
			lines, line = append(lines, line), text
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
