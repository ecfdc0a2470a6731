package grub

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a grub.cfg.
const (
	maxScript   = 1 << 20
	maxCommands = 4096
)

// command is one of a script: its words, and the block behind them as it stands.
type command struct {
	line  int
	words []string
	block string // with its braces; "" where there is none
	body  []command
}

// errVaries says that a script is not literal: what it does depends on more than its text.
var errVaries = errors.New("it is not literal")

func varies(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %w: %s", line, errVaries, fmt.Sprintf(format, args...))
}

// script reads a literal grub.cfg: commands without variables, conditions and functions,
// one to a line, and menu entries.
func script(text string) ([]command, error) {
	if len(text) > maxScript {
		return nil, fmt.Errorf("a grub.cfg must have at most %d bytes", maxScript)
	}
	r := &reader{text: text, line: 1}
	list, err := r.commands(0)
	if err == nil && r.at < len(text) {
		err = varies(r.line, "} without {")
	}
	return list, err
}

type reader struct {
	text     string
	at, line int
	count    int
}

// commands reads up to the end, or to the brace that closes a block.
func (r *reader) commands(depth int) (list []command, err error) {
	for {
		r.skip(" \t\n;")
		if r.at == len(r.text) || r.text[r.at] == '}' {
			return list, nil
		}
		if r.text[r.at] == '#' {
			r.comment()
			continue
		}
		if r.count++; r.count > maxCommands {
			return nil, fmt.Errorf("a grub.cfg must have at most %d commands", maxCommands)
		}
		c, err := r.command(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
}

func (r *reader) skip(set string) {
	for r.at < len(r.text) && strings.IndexByte(set, r.text[r.at]) >= 0 {
		if r.text[r.at] == '\n' {
			r.line++
		}
		r.at++
	}
}

func (r *reader) comment() {
	if end := strings.IndexByte(r.text[r.at:], '\n'); end >= 0 {
		r.at += end
	} else {
		r.at = len(r.text)
	}
}

// control are words of grub's language.
var control = []string{"if", "then", "else", "elif", "fi", "for", "in", "do", "done", "while", "until", "function", "case", "esac", "select", "time", "[[", "]]", "!", "["}

func (r *reader) command(depth int) (command, error) {
	c := command{line: r.line}
	for {
		r.skip(" \t")
		if r.at == len(r.text) || strings.IndexByte("\n;#}", r.text[r.at]) >= 0 {
			break
		}
		if r.text[r.at] == '{' {
			return c, r.blockOf(&c, depth)
		}
		word, err := r.word()
		if err != nil {
			return c, err
		}
		c.words = append(c.words, word)
	}
	if slices.Contains(control, c.words[0]) {
		return c, varies(c.line, "%s", c.words[0])
	}
	if c.words[0] == "menuentry" || c.words[0] == "submenu" {
		return c, varies(c.line, "%s without a block", c.words[0])
	}
	return c, nil
}

// blockOf reads the block of a menu entry.
func (r *reader) blockOf(c *command, depth int) (err error) {
	if depth > 0 || len(c.words) < 2 || c.words[0] != "menuentry" {
		return varies(c.line, "only menu entries have blocks, and no blocks in them")
	}
	from := r.at
	r.at++
	if c.body, err = r.commands(depth + 1); err != nil {
		return err
	}
	if r.at == len(r.text) {
		return varies(c.line, "{ without }")
	}
	r.at++
	c.block = r.text[from:r.at]
	return nil
}

// word reads one word: quotes are taken away, as grub does before it runs a command.
func (r *reader) word() (string, error) {
	var w strings.Builder
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case strings.IndexByte(" \t\n;", c) >= 0:
			return w.String(), nil
		case c == '\'':
			end := strings.IndexByte(r.text[r.at+1:], '\'')
			if end < 0 {
				return "", varies(r.line, "a quote is open")
			}
			quoted := r.text[r.at+1 : r.at+1+end]
			r.line += strings.Count(quoted, "\n")
			w.WriteString(quoted)
			r.at += end + 2
		case c == '"':
			if err := r.quoted(&w); err != nil {
				return "", err
			}
		case strings.IndexByte("$\\{}&|<>*?", c) >= 0 || c >= 0x80:
			return "", varies(r.line, "%q", c)
		default:
			w.WriteByte(c)
			r.at++
		}
	}
	return w.String(), nil
}

func (r *reader) quoted(w *strings.Builder) error {
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return nil
		case c == '$' || c == '\\' || c >= 0x80 || c == '\n':
			return varies(r.line, "%q within quotes", c)
		default:
			w.WriteByte(c)
		}
	}
	return varies(r.line, "a quote is open")
}

// text is a command as grub logs it.
func (c command) text() string {
	t := strings.Join(c.words, " ")
	if c.block != "" {
		t += " " + c.block
	}
	return t
}

// entry is the menu entry that is booted without a person: the one that default= numbers,
// else the first.
func entry(list []command) (*command, error) {
	number := 0
	var entries []*command
	for i, c := range list {
		switch {
		case c.words[0] == "menuentry":
			entries = append(entries, &list[i])
		case c.words[0] == "set" && len(c.words) == 2:
			if value, ok := strings.CutPrefix(c.words[1], "default="); ok {
				n, err := strconv.Atoi(value)
				if err != nil || n < 0 {
					return nil, varies(c.line, "default=%s is no number", value)
				}
				number = n
			}
		}
	}
	if number >= len(entries) {
		return nil, varies(1, "there are %d menu entries, and number %d is booted", len(entries), number)
	}
	return entries[number], nil
}

// title is an entry's, which grub gives its block.
func (c command) title() (string, error) {
	title := ""
	for i := 1; i < len(c.words); i++ {
		switch w := c.words[i]; {
		case w == "--class" || w == "--id" || w == "--users" || w == "--hotkey":
			i++
		case strings.HasPrefix(w, "--class=") || strings.HasPrefix(w, "--id=") || w == "--unrestricted":
		case strings.HasPrefix(w, "-") || title != "":
			return "", varies(c.line, "%s", w)
		default:
			title = w
		}
	}
	return title, nil
}

// loaderLine is grub_create_loader_cmdline: words with a space stand in quotes; quotes and
// backslashes are escaped.
func loaderLine(words []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`)
	var all []string
	for _, w := range words {
		w = escape.Replace(w)
		if strings.Contains(w, " ") {
			w = `"` + w + `"`
		}
		all = append(all, w)
	}
	return strings.Join(all, " ")
}
