// Package cmdline answers: what does a kernel's command line say of the root file system?
//
// It reads a line as Linux and systemd read it, and says whether a root hash on it
// covers the root file system (cima-policy(5), ROOT). Firmware and boot loaders measure
// the whole line, and the kernel may read less of it: such a line is refused, because the
// measured words would not be those that count.
package cmdline

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// most is how many bytes of a line Linux's EFI stub reads on x86: COMMAND_LINE_SIZE less
// its NUL.
const most = 2047

// Line is a command line that the kernel reads to its end.
type Line struct {
	Text  string
	words []word
}

// word is a parameter. '-' in its key is '_', which the kernel and systemd take for the
// same.
type word struct{ key, value string }

// Read reads a line, and refuses one of which the kernel would read a part.
func Read(text string) (*Line, error) {
	switch {
	case !utf8.ValidString(text):
		return nil, errors.New("the line must be UTF-8")
	case strings.ContainsRune(text, 0):
		return nil, errors.New("a NUL is in the line: what reads it may end there")
	case strings.ContainsAny(text, "\n\r"):
		return nil, errors.New("a newline is in the line: Linux's EFI stub reads nothing behind it")
	case len(text) > most:
		return nil, fmt.Errorf("the line must have at most %d bytes, not %d: Linux's EFI stub reads no more", most, len(text))
	}
	l := &Line{Text: text}
	for rest := text; ; {
		var raw string
		if raw, rest = next(rest); raw == "" {
			return l, nil
		}
		l.words = append(l.words, parameter(raw))
	}
}

// spaces are those of the kernel's isspace, in Latin-1.
const spaces = " \t\n\v\f\r"

// next cuts off the first parameter as the kernel's next_arg does: '"' alone quotes. What
// stands behind "--" is the kernel's no more, but systemd's generators read on.
func next(line string) (raw, rest string) {
	line = strings.TrimLeft(line, spaces)
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(spaces, c) >= 0:
			return line[:i], line[i:]
		}
	}
	return line, ""
}

func parameter(raw string) word {
	if strings.HasPrefix(raw, `"`) {
		raw = strings.TrimSuffix(raw[1:], `"`)
	}
	key, value, _ := strings.Cut(raw, "=")
	if strings.HasPrefix(value, `"`) {
		value = strings.TrimSuffix(value[1:], `"`)
	}
	return word{strings.ReplaceAll(key, "-", "_"), value}
}

// values are those of all parameters of a key.
func (l *Line) values(key string) (found []string) {
	key = strings.ReplaceAll(key, "-", "_")
	for _, w := range l.words {
		if w.key == key {
			found = append(found, w.value)
		}
	}
	return found
}

func (l *Line) has(key string) bool { return len(l.values(key)) > 0 }

// once is the value of a key. Programs differ in which of several counts.
func (l *Line) once(key string) (value string, there bool, err error) {
	switch found := l.values(key); len(found) {
	case 0:
		return "", false, nil
	case 1:
		return found[0], true, nil
	default:
		return "", true, fmt.Errorf("%s= must be there once: programs differ in which of several counts", key)
	}
}

// Digests are the SHA-384 of the forms in which firmware and boot loaders measure the
// line: Linux's EFI stub hashes UTF-16, with a NUL from OVMF and systemd-stub and without
// one from grub; grub hashes the text too.
func (l *Line) Digests() [][48]byte {
	var wide []byte
	for _, unit := range utf16.Encode([]rune(l.Text)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	var sums [][48]byte
	for _, form := range [][]byte{append(slices.Clone(wide), 0, 0), wide, []byte(l.Text), []byte(l.Text + "\x00")} {
		sums = append(sums, sha512.Sum384(form))
	}
	return sums
}
