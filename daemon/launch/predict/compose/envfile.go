package compose

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// parseVariables reads a file of variables: NAME=VALUE, with quotes and comments as
// compose has them; raw: to the end of the line, as docker run --env-file has them.
func parseVariables(text string, raw bool) (out []pair, err error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("it must be UTF-8 without NUL")
	}
	text = strings.TrimPrefix(text, "\ufeff")
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if !raw {
			line = strings.TrimPrefix(line, "export ")
		}
		name, value, given := strings.Cut(line, "=")
		if !raw {
			name = strings.TrimSpace(name)
			value, err = unquoted(value)
		}
		if err == nil && !variableName.MatchString(name) {
			err = fmt.Errorf("%.40q is no name of a variable", name)
		}
		if err != nil {
			return nil, &hinted{fmt.Errorf("line %d: %w", n+1, err), configHint}
		}
		out = append(out, pair{name, value, given})
	}
	return out, nil
}

// unquoted is the value behind "=": in quotes, or plain up to a comment.
func unquoted(s string) (string, error) {
	s = strings.Trim(s, " \t")
	if s == "" {
		return "", nil
	}
	switch quote := s[0]; quote {
	case '\'', '"':
		end := strings.LastIndexByte(s, quote)
		rest := strings.TrimSpace(s[end+1:])
		inner := s[1:max(end, 1)]
		switch {
		case end == 0:
			return "", fmt.Errorf("a value must end in the line where it begins, with its quote")
		case rest != "" && rest[0] != '#', strings.IndexByte(inner, quote) >= 0:
			return "", fmt.Errorf("%.40q: one value in quotes must stand behind =", s)
		case quote == '\'':
			return inner, nil
		case strings.ContainsAny(inner, "$\\"):
			return "", fmt.Errorf("%.40q: $ and \\ in double quotes are not read here", s)
		}
		return inner, nil
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimRight(s[:i], " \t")
	}
	if strings.IndexByte(s, '$') >= 0 {
		return "", fmt.Errorf("%.40q: only the shell that runs compose knows the variable", s)
	}
	return s, nil
}
