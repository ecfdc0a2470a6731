// Package config answers: what was configured?
//
// It reads cimad.toml over the defaults, checks every value, and computes the
// digest that the policy event logs (cimad.toml(5)).
package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
	"github.com/cima-project/cima/rpc"
)

// Values of isolation.
const (
	IsolationRedacted = "redacted"
	IsolationPrivate  = "private"
	IsolationNone     = "none"
)

// Config is the daemon's configuration (cimad.toml(5)).
type Config struct {
	// Anchor is "rtmr3", "pcr", or "report-data" where neither is the daemon's own.
	Anchor string `toml:"anchor"`

	// PCR is the number of the PCR that holds the log where Anchor is "pcr".
	PCR int `toml:"pcr" json:",omitzero"`

	// Isolation is "redacted": a container sees its own events, the public
	// ones, and digests of the others'; "private": no digests either, so
	// that its evidence doesn't replay; or "none": it sees them all.
	Isolation string `toml:"isolation"`

	Launch  Launch       `toml:"launch"`
	Engines Engines      `toml:"engines"`
	Limits  Limits       `toml:"limits"`
	IMA     IMA          `toml:"ima"`
	Gate    Gate         `toml:"gate"`
	Exec    Exec         `toml:"exec"`
	Access  []AccessRule `toml:"access"`
	System  []SystemRule `toml:"system"`
}

// Launch says what of a container is measured.
type Launch struct {
	Labels []string `toml:"labels"` // keys of labels that count

	// Data are directories of the host that hold data alone, DataRead those that
	// containers may read, however large. What a container mounts of them is no power.
	Data     []string `toml:"data"`
	DataRead []string `toml:"data_read"`

	Public []string `toml:"public"` // variables whose values are measured in clear

	// ImageDeadline is how long a caller is asked to come again while an
	// engine doesn't tell the image; after it the image is marked absent.
	ImageDeadline Duration `toml:"image_deadline"`
}

// Duration is a time.Duration that TOML writes as "10s".
type Duration time.Duration

// Default is what holds where the file says nothing. cimad.toml(5)
// gives the reason for each limit.
func Default() Config {
	return Config{
		Anchor: logs.AnchorRTMR3, PCR: pcr.Default, Isolation: IsolationRedacted,
		Launch: Launch{
			ImageDeadline: Duration(10 * time.Second),
			Data:          []string{"/srv"}, DataRead: []string{}, Public: []string{},
		},
		Engines: Engines{
			Docker:         "/run/docker.sock",
			Podman:         "/run/podman/podman.sock",
			DockerExecRoot: DefaultExecRoot,
		},
		IMA:  defaultIMA(),
		Gate: defaultGate(),
		Exec: defaultExec(),
		Limits: Limits{
			Line:                    64 << 10,
			Reply:                   1 << 20,
			EvidenceReply:           4 << 20,
			Connections:             1024,
			ConnectionsPerContainer: 64,
			InFlight:                256,
			Idle:                    Duration(time.Minute),
			Write:                   Duration(10 * time.Second),
			RequestsPerSecond:       500,
			RequestsBurst:           1000,
			QuotesPerMinute:         60,
			QuotesBurst:             10,
			QuoteTimeout:            Duration(45 * time.Second),
			RegisterTimeout:         Duration(10 * time.Second),
			LogBytes:                128 << 20,
			EventsPerContainer:      1000,
		},
	}
}

// Show is how much of the log evidence shows of others.
func (c *Config) Show() ledger.Show {
	switch c.Isolation {
	case IsolationNone:
		return ledger.ShowAll
	case IsolationPrivate:
		return ledger.ShowOwn
	}
	return ledger.ShowDigests
}

// check notes the faults of a whole configuration: values that can't be, and those
// that would do nothing.
func (c *Config) check(say sayer) {
	oneOf(say, c.Anchor, []string{logs.AnchorRTMR3, logs.AnchorPCR, logs.AnchorReportData}, "anchor")
	if err := pcr.May(c.PCR); err != nil {
		say(tables.Path("pcr"), "pcr: %v", err)
	}
	oneOf(say, c.Isolation, []string{IsolationRedacted, IsolationPrivate, IsolationNone}, "isolation")
	c.Launch.checkData(say)
	c.Launch.checkPublic(say)
	c.Engines.check(say)
	c.IMA.check(say)
	c.Gate.check(say)
	c.Exec.check(say, c.Gate)
	for i, r := range c.Access {
		r.check(say, tables.Path("access", i), rpc.CallerMethods(), c.Launch.Labels)
	}
	for i, r := range c.System {
		r.check(say, tables.Path("system", i))
	}
	c.Limits.check(say)
}

// oneOf notes a word that is none of those that a key may have.
func oneOf(say sayer, is string, words []string, key ...any) {
	if slices.Contains(words, is) {
		return
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	last := len(quoted) - 1
	say(tables.Path(key...), "%s = %q: must be %s or %s%s", dotted(key), is, strings.Join(quoted[:last], ", "), quoted[last], tables.Near(is, words))
}

// dotted is a key as people write it.
func dotted(key []any) string {
	words := make([]string, len(key))
	for i, k := range key {
		words[i] = fmt.Sprint(k)
	}
	return strings.Join(words, ".")
}

// idle notes a key that is set and would do nothing.
func idle(say sayer, set bool, because string, key ...any) {
	if set {
		say(tables.Path(key...), "%s does nothing %s: it must be left out", dotted(key), because)
	}
}

// OnPlatform fits the anchor to a platform, whose best anchor is given: "rtmr3", which is
// the default, means the platform's own register.
func (c *Config) OnPlatform(best string) error {
	switch c.Anchor {
	case best, logs.AnchorReportData:
	case logs.AnchorRTMR3:
		c.Anchor = best
	default:
		return fmt.Errorf("anchor = %q: this platform has none; hint: its best is %q, which holds where the key is left out", c.Anchor, best)
	}
	return nil
}

// Digest is the SHA-384 over the RFC 8785 form of the whole configuration,
// defaults included: measured.policy.
func (c *Config) Digest() (rpc.Digest, error) {
	form := *c
	if c.Anchor != logs.AnchorPCR {
		form.PCR = 0 // it does nothing
	}
	return canonical.Sum(&form)
}
