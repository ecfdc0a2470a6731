package predict

import (
	"fmt"
	"strings"
)

// Bounds of a line.
const (
	maxLine  = 128 << 10
	maxWords = 4096
)

// A wordsError says what in a line only a shell can know.
type wordsError struct{ what, hint string }

func (e *wordsError) Error() string { return e.what }

// Hint says what to write instead.
func (e *wordsError) Hint() string { return e.hint }

// shellWords splits a line as a POSIX shell does that has nothing to expand (POSIX.1-2024,
// Shell Command Language, 2.2): quotes, backslashes, and line ends after a backslash.
// What a shell would expand, or do besides running one command, is an error.
func shellWords(line string) ([]string, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("a line of %d bytes: it must have at most %d", len(line), maxLine)
	}
	return split(&splitter{rest: strings.TrimSpace(strings.ReplaceAll(line, "\r\n", "\n"))})
}

func split(s *splitter) ([]string, error) {
	for s.rest != "" {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	if s.open {
		s.words = append(s.words, s.word.String())
	}
	if len(s.words) > maxWords {
		return nil, fmt.Errorf("a line of %d words: it must have at most %d", len(s.words), maxWords)
	}
	return s.words, nil
}

// CommandWords splits a command that no shell will read, as compose does it: quotes and
// backslashes count, and nothing is expanded.
func CommandWords(text string) ([]string, error) {
	if len(text) > maxLine {
		return nil, fmt.Errorf("a command of %d bytes: it must have at most %d", len(text), maxLine)
	}
	return split(&splitter{rest: strings.TrimSpace(strings.ReplaceAll(text, "\n", " ")), literal: true})
}

type splitter struct {
	rest    string
	literal bool // what a shell would expand is meant as it stands
	word    strings.Builder
	open    bool // a word has begun
	words   []string
}

func (s *splitter) take(n int) string {
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	return taken
}

func (s *splitter) add(text string) {
	s.word.WriteString(text)
	s.open = true
}

// next reads one character or one quoted part.
func (s *splitter) next() error {
	switch c := s.rest[0]; c {
	case ' ', '\t':
		if s.open {
			s.words, s.open = append(s.words, s.word.String()), false
			s.word.Reset()
		}
		s.take(1)
	case '\'':
		end := strings.IndexByte(s.rest[1:], '\'')
		if end < 0 {
			return &wordsError{"a single quote is not closed", "close it"}
		}
		s.add(s.rest[1 : 1+end])
		s.take(end + 2)
	case '"':
		s.take(1)
		return s.double()
	case '\\':
		return s.escaped("")
	default:
		if err := s.plain(c); err != nil {
			return err
		}
		s.add(s.take(1))
	}
	return nil
}

// escaped reads a backslash and what it quotes: anything, or within double quotes the
// characters of among.
func (s *splitter) escaped(among string) error {
	switch {
	case len(s.rest) == 1:
		return &wordsError{"the line ends with a backslash", "leave it out, or give the lines that follow"}
	case s.rest[1] == '\n':
		s.take(2)
		return nil
	case among != "" && strings.IndexByte(among, s.rest[1]) < 0:
		s.add(s.take(1))
		return nil
	}
	s.add(s.rest[1:2])
	s.take(2)
	return nil
}

// double reads the rest of a part in double quotes.
func (s *splitter) double() error {
	s.open = true
	for s.rest != "" {
		switch s.rest[0] {
		case '"':
			s.take(1)
			return nil
		case '\\':
			if s.literal && (len(s.rest) == 1 || !strings.ContainsRune("\"\\$`", rune(s.rest[1]))) {
				return &wordsError{fmt.Sprintf("%.12q: a backslash in double quotes that programs read differently", s.rest), "use single quotes"}
			}
			if err := s.escaped("$`\"\\"); err != nil {
				return err
			}
		case '$', '`':
			if !s.literal {
				return expansion(s.rest)
			}
			s.add(s.take(1))
		default:
			s.add(s.take(1))
		}
	}
	return &wordsError{"a double quote is not closed", "close it"}
}

// plain refuses a character that a shell acts on outside quotes.
func (s *splitter) plain(c byte) error {
	switch {
	case c == '`' || c == '$' && !s.literal:
		return expansion(s.rest)
	case strings.IndexByte("|&;<>()\n", c) >= 0:
		return &wordsError{fmt.Sprintf("%.12q: more than one command", s.rest), "give one command; quote the character if it is meant as such"}
	case s.literal:
	case strings.IndexByte("*?[", c) >= 0:
		return &wordsError{fmt.Sprintf("%.12q: a shell may expand it to names of files", s.rest), "quote it: '" + string(c) + "'"}
	case c == '{' && braces(s.rest):
		return &wordsError{fmt.Sprintf("%.12q: some shells expand braces", s.rest), "quote it, or write the words out"}
	case c == '~' && !s.open:
		return &wordsError{fmt.Sprintf("%.12q: a shell expands ~ to a home directory", s.rest), "write the directory out"}
	case c == '#' && !s.open:
		return &wordsError{fmt.Sprintf("%.12q: a comment", s.rest), "leave it out, or quote it"}
	}
	return nil
}

// braces reports whether text begins with {a,b} or {a..b}.
func braces(text string) bool {
	end := strings.IndexAny(text, "} \t\n")
	return end > 0 && text[end] == '}' && (strings.Contains(text[:end], ",") || strings.Contains(text[:end], ".."))
}

func expansion(rest string) error {
	name := rest
	if end := strings.IndexAny(rest, " \t\n\"'/:,="); end > 0 {
		name = rest[:end]
	}
	return &wordsError{fmt.Sprintf("%.40q: only the shell that runs the line knows its value", name), "write the value; a $ that is meant as such stands in single quotes"}
}
