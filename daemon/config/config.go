// Package config answers: what was configured?
//
// It reads cimad.toml over the defaults, checks every value, and computes the
// digest that the policy event logs (cimad.toml(5)).
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"time"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// File is read when --config names no other; it need not exist.
const File = "/etc/cima/cimad.toml"

// Values of isolation.
const (
	IsolationRedacted = "redacted"
	IsolationPrivate  = "private"
	IsolationNone     = "none"
)

const DefaultExecRoot = "/run/docker"

// Config is the daemon's configuration (cimad.toml(5)).
type Config struct {
	// Anchor is "rtmr3", or "report-data" where RTMR3 belongs to another.
	Anchor string `toml:"anchor"`

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

// Engines says where engines are.
type Engines struct {
	Docker string `toml:"docker"` // API socket; empty: never asked
	Podman string `toml:"podman"`

	// DockerExecRoot is dockerd's --exec-root: the records of a dockerd
	// that runs a containerd of its own are below it.
	DockerExecRoot string `toml:"docker_exec_root"`
}

// Limits bounds everything that a caller controls (SECURITY.md, What holds it, 5).
type Limits struct {
	Line                    int      `toml:"line"`                      // bytes of a request
	Reply                   int      `toml:"reply"`                     // bytes of a reply
	EvidenceReply           int      `toml:"evidence_reply"`            // bytes of GetEvidence's reply
	Connections             int      `toml:"connections"`               // in all
	ConnectionsPerContainer int      `toml:"connections_per_container"` // or per uid
	InFlight                int      `toml:"in_flight"`                 // requests on a connection
	Idle                    Duration `toml:"idle"`                      // with no whole request
	Write                   Duration `toml:"write"`                     // for a reply to be taken
	RequestsPerSecond       float64  `toml:"requests_per_second"`       // per container
	RequestsBurst           int      `toml:"requests_burst"`
	QuotesPerMinute         float64  `toml:"quotes_per_minute"` // per container
	QuotesBurst             int      `toml:"quotes_burst"`
	QuoteTimeout            Duration `toml:"quote_timeout"`
	RegisterTimeout         Duration `toml:"register_timeout"`     // for a register to be read or extended
	LogBytes                int64    `toml:"log_bytes"`            // of the runtime log
	EventsPerContainer      int      `toml:"events_per_container"` // that one container may cause
}

// Duration is a time.Duration that TOML writes as "10s".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads, above zero.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q must be a duration such as \"10s\" or \"1m30s\"", text)
	}
	if v <= 0 {
		return fmt.Errorf("duration %s must be above zero", text)
	}
	*d = Duration(v)
	return nil
}

// Default is what holds where the file says nothing. cimad.toml(5)
// gives the reason for each limit.
func Default() Config {
	return Config{
		Anchor: logs.AnchorRTMR3, Isolation: IsolationRedacted,
		Launch: Launch{
			ImageDeadline: Duration(10 * time.Second),
			Data:          []string{"/srv"}, DataRead: []string{}, Public: []string{},
		},
		Engines: Engines{
			Docker:         "/run/docker.sock",
			Podman:         "/run/podman/podman.sock",
			DockerExecRoot: DefaultExecRoot,
		},
		IMA:  IMA{Mode: imaAnchor, Interval: Duration(time.Minute)},
		Gate: defaultGate(),
		Exec: defaultExec(),
		Limits: Limits{
			Line:                    64 << 10,
			Reply:                   1 << 20,
			EvidenceReply:           4 << 20,
			Connections:             1024,
			ConnectionsPerContainer: 64,
			InFlight:                16,
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

// Load reads a configuration file. A file that isn't there gives the
// defaults; an unknown key is an error that names its line.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(string(text))
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads the text of a configuration file over the defaults.
func Parse(text string) (Config, error) {
	c := Default()
	meta, err := toml.Decode(text, &c)
	if err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return Config{}, fmt.Errorf("line %d: %s", at.Position.Line, at.Message)
		}
		return Config{}, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Config{}, fmt.Errorf("line %d: unknown key %q", keyLine(text, unknown[0]), unknown[0])
	}
	return c, c.check()
}

// keyLine finds the line of a key, for the decoder keeps none.
func keyLine(text string, key toml.Key) int {
	table := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(strings.TrimSpace(strings.SplitN(line, "#", 2)[0]), "[] ")
			if table == key.String() {
				return i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); ok && strings.TrimPrefix(table+"."+name, ".") == key.String() {
			return i + 1
		}
	}
	return 0
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

func (c Config) check() error {
	if c.Anchor != logs.AnchorRTMR3 && c.Anchor != logs.AnchorReportData {
		return fmt.Errorf("anchor = %q: must be %q or %q", c.Anchor, logs.AnchorRTMR3, logs.AnchorReportData)
	}
	switch c.Isolation {
	case IsolationRedacted, IsolationPrivate, IsolationNone:
	default:
		return fmt.Errorf("isolation = %q: must be %q, %q or %q", c.Isolation, IsolationRedacted, IsolationPrivate, IsolationNone)
	}
	if err := errors.Join(c.Launch.checkData(), c.Launch.checkPublic()); err != nil {
		return err
	}
	for _, r := range c.Access {
		if err := r.check(rpc.CallerMethods(), c.Launch.Labels); err != nil {
			return err
		}
	}
	for _, r := range c.System {
		if err := r.check(); err != nil {
			return err
		}
	}
	if c.IMA.Mode != imaAnchor && c.IMA.Mode != IMAOff {
		return fmt.Errorf("ima.mode = %q: must be %q or %q", c.IMA.Mode, imaAnchor, IMAOff)
	}
	if err := errors.Join(c.Gate.check(), c.Exec.check()); err != nil {
		return err
	}
	l := c.Limits
	for _, limit := range []struct {
		key             string
		is, least, most int64
	}{
		{"line", int64(l.Line), 1 << 10, 16 << 20},
		{"reply", int64(l.Reply), 4 << 10, 64 << 20},
		{"evidence_reply", int64(l.EvidenceReply), 64 << 10, 256 << 20},
		{"connections", int64(l.Connections), 1, 1 << 16},
		{"connections_per_container", int64(l.ConnectionsPerContainer), 1, 1 << 16},
		{"in_flight", int64(l.InFlight), 1, 1 << 10},
		{"requests_burst", int64(l.RequestsBurst), 1, 1 << 30},
		{"quotes_burst", int64(l.QuotesBurst), 1, 1 << 20},
		{"log_bytes", l.LogBytes, 64 << 10, 1 << 40},
		{"events_per_container", int64(l.EventsPerContainer), 1, 1 << 30},
	} {
		if limit.is < limit.least || limit.is > limit.most {
			return fmt.Errorf("limits.%s = %d: must be %d to %d", limit.key, limit.is, limit.least, limit.most)
		}
	}
	for _, rate := range []struct {
		key string
		is  float64
	}{{"requests_per_second", l.RequestsPerSecond}, {"quotes_per_minute", l.QuotesPerMinute}} {
		if !(rate.is > 0) || math.IsInf(rate.is, 0) { // NaN is above nothing
			return fmt.Errorf("limits.%s = %v: must be a finite number above zero", rate.key, rate.is)
		}
	}
	return nil
}

// Digest is the SHA-384 over the RFC 8785 form of the whole configuration,
// defaults included: measured.policy.
func (c *Config) Digest() (rpc.Digest, error) {
	return canonical.Sum(c)
}
