package replay

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes text of others safe for a terminal: what is not printable
// becomes U+FFFD, and what stands behind 400 bytes is cut off.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
	return Clip(s, 400)
}

// Clip cuts text off behind most bytes, or before the character that stands there, and
// marks the cut.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// ShortID is a container's ID as people know it: 12 hex digits, as docker ps
// shows it, behind the owner's name where there is one.
func ShortID(id string) string {
	owner, name, found := strings.CutLast(id, "/")
	if !found {
		name = id
	}
	if len(name) == 64 {
		name = name[:12]
	}
	if found {
		name = owner + "/" + name
	}
	return Clip(name, 80)
}
