package tables

import (
	"fmt"
	"strings"
)

// MaxNesting is how deep arrays and tables may nest.
const MaxNesting = 32

// positions finds the line of each key and element of a TOML document, which its reader
// doesn't report. It is made for valid documents; in others it goes as far as the reader
// does. Paths are names and numbers, joined by separator.
type positions struct {
	text  string
	at    int
	line  int
	lines map[string]int
	last  map[string]int // array of tables: the number of its last table
	deep  int            // the line of what nests too deeply, 0 for none
}

const separator = "\x00"

func findPositions(text string) *positions {
	p := &positions{text: text, line: 1, lines: make(map[string]int), last: make(map[string]int)}
	table := ""
	for p.deep == 0 {
		p.space(true)
		if p.end() {
			break
		}
		if p.text[p.at] != '[' {
			p.pair(table, 0)
			continue
		}
		array := strings.HasPrefix(p.text[p.at:], "[[")
		p.at++
		if array {
			p.at++
		}
		table = p.header(p.key(), array)
		p.rest()
	}
	return p
}

func (p *positions) end() bool { return p.at >= len(p.text) }

// rest skips what is left of the line.
func (p *positions) rest() {
	for !p.end() && p.text[p.at] != '\n' {
		p.at++
	}
}

// header notes a table's line, and returns its path.
func (p *positions) header(names []string, array bool) string {
	path := ""
	for i, name := range names {
		path = join(path, name)
		p.note(path)
		if n, ok := p.last[path]; ok && (i < len(names)-1 || !array) {
			path = fmt.Sprint(path, separator, n)
		}
	}
	if array {
		n, again := p.last[path]
		if again {
			n++
		}
		p.last[path] = n
		p.note(path)
		path = fmt.Sprint(path, separator, n)
	}
	p.note(path)
	return path
}

// note keeps the first line of a path.
func (p *positions) note(path string) {
	if _, ok := p.lines[path]; !ok {
		p.lines[path] = p.line
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + separator + name
}

// pair reads KEY = VALUE.
func (p *positions) pair(table string, depth int) {
	begun, path := p.at, table
	for _, name := range p.key() {
		path = join(path, name)
		p.note(path)
	}
	p.space(false)
	if !p.end() && p.text[p.at] == '=' {
		p.at++
		p.space(false)
		p.value(path, depth)
	}
	if p.at == begun {
		p.at++ // not TOML: go on anywhere
	}
}

// key reads a key with its dots.
func (p *positions) key() (names []string) {
	for {
		p.space(false)
		if p.end() {
			return names
		}
		switch c := p.text[p.at]; {
		case c == '"' || c == '\'':
			names = append(names, p.quoted())
		case strings.IndexByte("=]},\n#", c) >= 0:
			return names
		case c == '.':
			p.at++
		default:
			n := strings.IndexAny(p.text[p.at:], ".=]},\n#\"' \t\r")
			if n < 0 {
				n = len(p.text) - p.at
			}
			n = max(n, 1)
			names = append(names, p.text[p.at:p.at+n])
			p.at += n
		}
	}
}

// space skips blanks and, where they may stand, newlines and comments.
func (p *positions) space(newlines bool) {
	for !p.end() {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || c == '\r':
		case newlines && c == '\n':
			p.line++
		case newlines && c == '#':
			p.rest()
			continue
		default:
			return
		}
		p.at++
	}
}

// value notes the line of a value's elements and members, and skips it.
func (p *positions) value(path string, depth int) {
	if p.end() {
		return
	}
	switch c := p.text[p.at]; c {
	case '"', '\'':
		p.quoted()
	case '[', '{':
		if depth == MaxNesting {
			p.deep = p.line
			return
		}
		p.at++
		p.list(path, c == '{', depth+1)
	default:
		if n := strings.IndexAny(p.text[p.at:], ",]}#\n"); n >= 0 {
			p.at += n
		} else {
			p.at = len(p.text)
		}
	}
}

func (p *positions) list(path string, members bool, depth int) {
	for n := 0; p.deep == 0; {
		p.space(true)
		if p.end() {
			return
		}
		switch c := p.text[p.at]; {
		case c == ']' || c == '}':
			p.at++
			return
		case c == ',':
			p.at++
			n++
		case members:
			p.pair(path, depth)
		default:
			begun := p.at
			element := fmt.Sprint(path, separator, n)
			p.note(element)
			if p.value(element, depth); p.at == begun {
				p.at++
			}
		}
	}
}

// quoted reads a string of any of the four kinds.
func (p *positions) quoted() string {
	quote := p.text[p.at : p.at+1]
	long := strings.HasPrefix(p.text[p.at:], strings.Repeat(quote, 3))
	if long {
		quote = strings.Repeat(quote, 3)
	}
	p.at += len(quote)
	begun := p.at
	for !p.end() {
		switch {
		case strings.HasPrefix(p.text[p.at:], quote):
			text := p.text[begun:p.at]
			for p.at += len(quote); long && !p.end() && p.text[p.at] == quote[0]; p.at++ {
			}
			return text
		case p.text[p.at] == '\\' && quote[0] == '"':
			p.at++ // and what it escapes, unless that is a newline to count
			if !p.end() && p.text[p.at] == '\n' {
				continue
			}
		case p.text[p.at] == '\n':
			if !long {
				return ""
			}
			p.line++
		}
		p.at++
	}
	p.at = len(p.text)
	return ""
}
