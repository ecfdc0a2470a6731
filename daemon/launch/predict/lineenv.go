package predict

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxFile bounds the bytes of a file that a line names.
const maxFile = 4 << 20

// variable takes --env. Without a value it is the variable of whoever runs the line.
func (r *reader) variable(s string) error {
	v, ok := strings.CutPrefix(s, "=")
	if ok || s == "" {
		return fmt.Errorf("a variable must have a name, not %q", "="+v)
	}
	r.set(&r.given, s)
	return nil
}

// set notes a variable, or that only the client's environment has it.
func (r *reader) set(into *[]Variable, s string) {
	name, value, ok := strings.Cut(s, "=")
	if ok {
		*into = append(*into, Variable{Name: name, Value: value})
		return
	}
	r.c.Borrow(name)
}

// Borrow notes a variable whose value is that of whoever starts the container.
func (c *Container) Borrow(name string) {
	c.Doubt("asked.environment "+name, "its value is that of whoever runs the line (write "+name+"=VALUE)", "")
}

// read reads a file that the line names.
func (r *reader) read(name string) ([]byte, error) {
	if r.files == nil {
		return nil, fmt.Errorf("%s: no files can be read here", name)
	}
	text, err := r.files(name)
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s must have at most %d bytes", name, maxFile)
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return nil, fmt.Errorf("%s must be UTF-8 without NUL", name)
	}
	return text, nil
}

// lines calls take for each line of a file that is neither empty nor a comment.
func (r *reader) lines(name string, take func(line string) error) error {
	text, err := r.read(name)
	if err != nil {
		return err
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := take(line); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *reader) envFile(name string) error {
	return r.lines(name, func(line string) error {
		name, _, _ := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("%.40q: a variable's name must be neither empty nor have white space", line)
		}
		r.set(&r.file, line)
		return nil
	})
}

func (r *reader) label(s string) error {
	name, value, _ := strings.Cut(s, "=")
	if r.c.Labels == nil {
		r.c.Labels = make(map[string]string)
	}
	r.c.Labels[name] = value
	return nil
}

func (r *reader) labelFile(name string) error { return r.lines(name, r.label) }
