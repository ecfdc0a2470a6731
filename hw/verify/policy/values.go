package policy

import (
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/tables"
)

// What values of a policy must be: functions that return "" for a good one.

var (
	hex384       = regexp.MustCompile(`^[0-9a-f]{96}$`)
	imageDigest  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	verityDigest = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
)

const (
	zeroWord = "zero" // the word that zeros alone meet
	anyWord  = "any"
)

// digest384 wants a SHA-384 that is not zero.
func digest384(s string) string {
	switch {
	case !hex384.MatchString(s):
		return "96 lower-case hex digits"
	case digestOf(s) == hw.Digest{}:
		return `the word "zero": zeros are no digest of anything`
	}
	return ""
}

func digestOrZero(s string) string {
	if s == zeroWord {
		return ""
	}
	return digest384(s)
}

func digestZeroOrAny(s string) string {
	if s == anyWord {
		return ""
	}
	return digestOrZero(s)
}

func digestOrAny(s string) string {
	if s == anyWord {
		return ""
	}
	return digest384(s)
}

func isImageDigest(s string) string {
	if !imageDigest.MatchString(s) {
		return `"sha256:" and 64 lower-case hex digits`
	}
	return ""
}

// isProgram wants the digest of a program as exec events have it.
func isProgram(s string) string {
	if digest384(s) != "" && !verityDigest.MatchString(s) {
		return `96 lower-case hex digits (SHA-384), or fs-verity's digest: "sha256:" and 64, or "sha512:" and 128`
	}
	return ""
}

// digestOf reads a digest that is checked, or "zero".
func digestOf(s string) (d hw.Digest) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(d) {
		copy(d[:], b)
	}
	return d
}

// ValueWord is how a policy writes a register.
func ValueWord(d hw.Digest) string {
	if d == (hw.Digest{}) {
		return zeroWord
	}
	return d.String()
}

// validity is when something counts: from the first moment up to, and not at, the last.
type validity struct{ from, until time.Time }

func readValidity(t *tables.Table) validity {
	v := validity{t.Time("from"), t.Time("until")}
	if !v.from.IsZero() && !v.until.IsZero() && !v.from.Before(v.until) {
		t.Bad("until", "after from")
	}
	return v
}

// out says why something does not count at a time, "" if it does.
func (v validity) out(at time.Time) string {
	switch {
	case !v.from.IsZero() && at.Before(v.from):
		return "is valid from " + v.from.UTC().Format(time.RFC3339)
	case !v.until.IsZero() && !at.Before(v.until):
		return "was valid until " + v.until.UTC().Format(time.RFC3339)
	}
	return ""
}

// names joins a list for people.
func names(list []string) string { return strings.Join(list, ", ") }
