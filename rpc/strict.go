package rpc

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// MalformedError says that JSON is not what this package takes: not JSON, not
// UTF-8, ambiguous, or not of the shape asked for.
type MalformedError struct {
	Offset int    // byte at which it shows, from 0
	Member string // which member, as a path ("claims.log.count"), "" where none in particular
	Reason string
}

// Error says where and why.
func (e *MalformedError) Error() string {
	if e.Member != "" && !strings.Contains(e.Reason, fmt.Sprintf("%q", e.Member)) {
		return fmt.Sprintf("member %q: %s", e.Member, e.Reason)
	}
	if e.Member != "" {
		return e.Reason
	}
	return fmt.Sprintf("%s (byte %d)", e.Reason, e.Offset)
}

// Strict reports whether data is one JSON value with one meaning: UTF-8,
// nested at most 32 deep, and no object in it with a member twice or with two
// names that differ in case alone. The error is a *MalformedError.
func Strict(data []byte) error {
	s := scanner{data: data}
	return s.all(nil)
}

// StrictCanonical is Strict and wants every string and number spelled as RFC
// 8785 spells them, so that no bit of a text can change and leave its meaning.
// White space and the order of members are free.
func StrictCanonical(data []byte) error {
	s := scanner{data: data, canonical: true}
	return s.all(nil)
}

// nameSet is the members' names of one object. Most objects are small: the
// map is made for large ones only.
type nameSet struct {
	few  [8][]byte
	n    int
	many map[string][]byte
}

// add returns false and the other one where name, or a case variant of it,
// is there already.
func (s *nameSet) add(name []byte) (other []byte, ok bool) {
	if s.many == nil {
		for _, other := range s.few[:s.n] {
			if bytes.EqualFold(other, name) {
				return other, false
			}
		}
		if s.n < len(s.few) {
			s.few[s.n] = name
			s.n++
			return nil, true
		}
		s.many = make(map[string][]byte)
		for _, other := range s.few {
			s.many[fold(other)] = other
		}
	}
	key := fold(name)
	if other, there := s.many[key]; there {
		return other, false
	}
	s.many[key] = name
	return nil, true
}

// fold maps names that differ in case alone (as bytes.EqualFold sees it) to
// one string.
func fold(name []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if r < unicode.MaxASCII && ('a' > r || r > 'z') && ('A' > r || r > 'Z') {
			return r
		}
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name))
}

// clip keeps what a caller sent from filling our messages.
func clip(text []byte) string {
	const most = 64
	if len(text) <= most {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:most]), "") + "…"
}
