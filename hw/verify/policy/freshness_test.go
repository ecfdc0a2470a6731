package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/wanted"
)

func on(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

// wrong are the names of what is not as wanted.
func wrong(found wanted.Findings) string {
	var names []string
	for _, f := range found {
		if !f.OK && !slices.Contains(names, f.What) {
			names = append(names, f.What)
		}
	}
	return strings.Join(names, ", ")
}

// How old a nonce may be, where somebody says when it was made.
func TestFreshness(t *testing.T) {
	p := parse(t, "cima_policy = 2\n[freshness]\nnonce = \"5m\"\n")
	for _, c := range []struct {
		p     *Policy
		made  time.Time
		wrong string
		known bool
	}{
		{p, december.Add(-time.Minute), "", true}, {p, december.Add(-5 * time.Minute), "", true}, {p, december, "", true},
		{p, december.Add(-5*time.Minute - time.Second), "5m1s old", true}, {p, december.Add(time.Second), "after the time", true},
		{p, time.Time{}, "", false}, {parse(t, "cima_policy = 2\n"), time.Time{}, "", true}, {nil, on("2001-01-01"), "", true},
	} {
		wrong, known := c.p.JudgeNonce(c.made, december)
		if known != c.known || !strings.Contains(wrong, c.wrong) || (wrong == "") != (c.wrong == "") {
			t.Errorf("made at %s: %q, %v, want %q", c.made, wrong, known, c.wrong)
		}
	}
	for _, text := range []string{"nonce = 5", "nonce = \"0s\"", "age = \"5m\"", "collateral = \"-1d\""} {
		if _, err := Parse("p", []byte("cima_policy = 2\n[freshness]\n"+text)); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

// A revocation counts from its date on; of two of one digest the earlier.
func TestRevokedSince(t *testing.T) {
	digest := strings.Repeat("ab", 48)
	entry := func(since string) string {
		return "[[revoked]]\ndigest = \"" + digest + "\"\nwhy = \"because\"\n" + since + "\n"
	}
	for _, c := range []struct {
		text    string
		at      string
		revoked bool
	}{
		{entry(""), "2001-01-01", true}, {entry("since = 2026-11-05"), "2026-11-04", false}, {entry("since = 2026-11-05"), "2026-11-05", true},
		{entry("since = 2026-11-05") + entry(""), "2026-11-04", true}, {entry("") + entry("since = 2026-11-05"), "2026-11-04", true},
		{entry("since = 2026-11-05") + entry("since = 2026-10-05"), "2026-11-04", true},
	} {
		p := parse(t, "cima_policy = 2\n"+c.text)
		found := p.Revoked(func(yield func(what, digest string) bool) { yield("image", digest) }, on(c.at))
		if (len(found) > 0) != c.revoked {
			t.Errorf("%s at %s: %q", c.text, c.at, found)
		}
	}
	if _, err := Parse("p", []byte("cima_policy = 2\n"+entry("since = \"soon\""))); err == nil {
		t.Error("since that is no date was accepted")
	}
}
