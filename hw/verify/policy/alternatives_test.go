package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

const shownPolicy = `cima_policy = 2
[image.web]
digests = ["sha256:2222222222222222222222222222222222222222222222222222222222222222"]
[image.past]
digests = ["sha256:2222222222222222222222222222222222222222222222222222222222222222"]
until = 2026-11-30T00:00:00Z
[power]
allow = ["privileged"]
allow_kinds = ["host-read"]
[[container]]
name = "launch"
launch = ["LAUNCH"]
[[container]]
name = "both"
image = ["web"]
launch = ["LAUNCH"]
[[container]]
name = "image"
image = ["web"]
source = ["bundle", "user"]
cgroup_owner = [0, 7]
waive = ["start-observed"]
[[container]]
name = "image"
image = ["web"]
[[container]]
name = "quiet"
launch = ["LAUNCH"]
demand = ["power"]
[[container]]
name = "any"
any = true
[[container]]
name = "none but the right one"
any = true
demand = ["any-caller"]
[[container]]
name = "other launch"
launch = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
[[container]]
name = "past"
launch = ["LAUNCH"]
until = 2026-11-30T00:00:00Z
[[container]]
name = "past image"
image = ["past"]
[[container]]
name = "match"
any = true
match = {asked.hostname = "x"}
[[container]]
name = "execs"
any = true
execs = ["LAUNCH"]
[[container]]
name = "no execs"
any = true
execs = []
[[container]]
name = "defaults"
any = true
defaults = ["LAUNCH"]
[[container]]
name = "boot"
any = true
boot = ["b"]
[[container]]
name = "closed"
any = true
demand = ["executions"]
[[container]]
name = "whose channel is bound"
any = true
demand = ["channel"]
[[boot]]
name = "b"
firmware = ["f"]
system = ["s"]
[firmware.f]
mrtd = ["LAUNCH"]
rtmr0 = "LAUNCH"
[system.s]
rtmr1 = "LAUNCH"
rtmr2 = "LAUNCH"
line = "x"
root = "not covered"
host_input = "unknown"
[[forbidden]]
operation = "missed"
[[required]]
operation = "system"
`

// A container has the names of those alternatives of which all that they ask is shown.
func TestShown(t *testing.T) {
	text := strings.ReplaceAll(shownPolicy, "LAUNCH", hexOf("9c"))
	usual := Shown{Launch: digest("9c"), Image: sha256Of("22"), Source: logs.SourceBundle, Gated: true, PIDFD: true, Power: []string{}}
	all := []string{"launch", "both", "image", "quiet", "any"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(names, s) })
	}
	for name, c := range map[string]struct {
		change func(*Shown)
		more   string // of the policy
		at     time.Time
		want   []string
	}{
		"usual":             {want: all},
		"launch not known":  {change: func(s *Shown) { s.Launch = hw.Digest{} }},
		"another launch":    {change: func(s *Shown) { s.Launch = digest("9d") }, want: []string{"image", "any"}},
		"image not known":   {change: func(s *Shown) { s.Image = "" }, want: without("both", "image")},
		"another image":     {change: func(s *Shown) { s.Image = sha256Of("23") }, want: without("both", "image")},
		"image is demanded": {change: func(s *Shown) { s.Image = "" }, more: "demand = [\"image\"]"},
		"observed":          {change: func(s *Shown) { s.Gated = false }, want: []string{"image"}},
		"observed, waived":  {change: func(s *Shown) { s.Gated = false }, more: "waive = [\"start-observed\"]", want: all},
		"power not known":   {change: func(s *Shown) { s.Power = nil }},
		"power":             {change: func(s *Shown) { s.Power = []string{"privileged", "host-read:/run"} }, want: without("quiet")},
		"more power":        {change: func(s *Shown) { s.Power = []string{"privileged", "mount:proc"} }},
		"unknown power":     {change: func(s *Shown) { s.Power = []string{"of tomorrow"} }},
		"source":            {change: func(s *Shown) { s.Source = logs.SourceUser }, want: []string{"image"}},
		"no source":         {change: func(s *Shown) { s.Source = "" }},
		"owner":             {change: func(s *Shown) { s.Owner = 7 }, want: []string{"image"}},
		"owner is demanded": {change: func(s *Shown) { s.Owner = 7 }, more: "demand = [\"owner\"]"},
		"a number":          {change: func(s *Shown) { s.PIDFD = false }, want: all},
		"no number":         {change: func(s *Shown) { s.PIDFD = false }, more: "demand = [\"caller-process\"]"},
		"volumes demanded":  {more: "demand = [\"volumes\"]"},
		"defaults demanded": {more: "demand = [\"defaults\"]"},
		"before":            {at: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC), want: slices.Concat(all, []string{"past", "past image"})},
		"policy is over":    {more: "until = 2026-11-30T00:00:00Z"},
		"revoked launch":    {more: "[[revoked]]\nwhy = \"x\"\ndigest = \"" + hexOf("9c") + "\""},
		"revoked image":     {more: "[[revoked]]\nwhy = \"x\"\ndigest = \"" + sha256Of("22") + "\""},
		"revoked later":     {more: "[[revoked]]\nwhy = \"x\"\nsince = 2027-01-01T00:00:00Z\ndigest = \"" + sha256Of("22") + "\"", want: all},
		"forbidden exec":    {more: "[[forbidden]]\noperation = \"exec\""},
		"required launch":   {more: "[[required]]\noperation = \"launch\""},
		"forbidden power":   {more: "[[forbidden]]\noperation = \"power\""},
	} {
		shown, policy := usual, text
		if c.change != nil {
			c.change(&shown)
		}
		if strings.HasPrefix(c.more, "[[") {
			policy += c.more
		} else {
			policy = strings.Replace(policy, "\n", "\n"+c.more+"\n", 1)
		}
		if c.at.IsZero() {
			c.at = december
		}
		if got := parse(t, policy).Alternatives(shown, c.at); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Who writes an alternative that no look-up can meet is told, and why.
func TestUnshown(t *testing.T) {
	text := strings.ReplaceAll(shownPolicy, "LAUNCH", hexOf("9c"))
	reasons, all := parse(t, text).Unshown()
	if want := []string{"match", "execs", "execs", "defaults", "boot"}; all || len(reasons) != len(want) {
		t.Errorf("%q, all %v, want %q", reasons, all, want)
	} else {
		for i, key := range want {
			if !strings.Contains(reasons[i], "has "+key+", which no look-up shows") {
				t.Errorf("%q, want %s", reasons[i], key)
			}
		}
	}
	for more, want := range map[string]string{
		text + "[[forbidden]]\noperation = \"exec\"":                           "asks for exec events",
		"cima_policy = 2\n":                                                    "",
		"cima_policy = 2\n[[container]]\nname = \"x\"\nany = true\nexecs = []": `container "x" has execs`,
	} {
		reasons, all := parse(t, more).Unshown()
		if !all || want == "" && len(reasons) > 0 || want != "" && (len(reasons) != 1 || !strings.Contains(reasons[0], want)) {
			t.Errorf("%q, all %v, want %q", reasons, all, want)
		}
	}
}

// A policy of its greatest size costs one look at each alternative that names the image.
func TestShownMany(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "cima_policy = 2\n[image.web]\ndigests = [%q]\n", sha256Of("22"))
	for i := range 10_000 {
		fmt.Fprintf(&b, "[[container]]\nname = \"%d\"\nimage = [\"web\"]\n", i)
	}
	s := Shown{Launch: digest("9c"), Image: sha256Of("22"), Source: logs.SourceBundle, Gated: true, Power: []string{}}
	if got := parse(t, b.String()).Alternatives(s, december); len(got) != 10_000 || got[9_999] != "9999" {
		t.Errorf("%d names", len(got))
	}
}
