package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

var operations = []string{logs.OpStart, logs.OpPolicy, logs.OpSeal, logs.OpSystem, logs.OpPower, logs.OpLaunch,
	logs.OpImage, logs.OpExec, logs.OpExtend, logs.OpMissed, logs.OpIMA}

// maxPolicy bounds a policy file.
const maxPolicy = 1 << 20

// Policy are the reference values and rules of a relying party (RFC 9334),
// as a TOML file has them. What it does not name is not allowed.
type Policy struct {
	Boot      []BootValues    `toml:"boot"`
	TD        TDPolicy        `toml:"td"`
	TCB       *TCBPolicy      `toml:"tcb"`
	Agent     AgentPolicy     `toml:"agent"`
	Container ContainerPolicy `toml:"container"`
	Host      HostPolicy      `toml:"host"`
	Power     PowerPolicy     `toml:"power"`
	Required  []EventPattern  `toml:"required"`  // each must match a judged event
	Forbidden []EventPattern  `toml:"forbidden"` // none may match a judged event
}

// BootValues are the registers of one boot that the relying party knows: the
// evidence must have all of one set. RTMR0–2 are known by value, by events, or
// by both.
type BootValues struct {
	Name  string      `toml:"name"` // for people
	MRTD  *rpc.Digest `toml:"mrtd"`
	RTMR0 *rpc.Digest `toml:"rtmr0"`
	RTMR1 *rpc.Digest `toml:"rtmr1"`
	RTMR2 *rpc.Digest `toml:"rtmr2"`

	Events []BootPattern `toml:"events"`

	// OSLog allows that the operating system extended RTMR2 after the boot,
	// by the log in the evidence: RTMR2 is then what the boot left there.
	OSLog bool `toml:"os_log"`
}

// TDPolicy is about the TD itself.
type TDPolicy struct {
	AllowDebug bool `toml:"allow_debug"` // a TD whose host can read and write its memory

	// A TD that can be migrated is refused but with one of these service TDs
	// (MRSERVICETD, in quotes of TDX 1.5), or where any is allowed.
	ServiceTDs      []rpc.Digest `toml:"service_tds"`
	AllowMigratable bool         `toml:"allow_migratable"`
}

// TCBPolicy is about the platform's patch level. Where it has rules that need
// collateral, evidence without is not trusted. Where it isn't there and
// collateral is, the status must be UpToDate.
type TCBPolicy struct {
	Statuses []string `toml:"statuses"` // allowed; default: UpToDate. Revoked never is
	MinDate  string   `toml:"min_date"` // of the TCB level, as 2025-08-13 or RFC 3339
	MinSVN   hexBytes `toml:"min_svn"`  // each of TEE_TCB_SVN's 16 bytes is at least this, in hex
}

func (p *TCBPolicy) needsCollateral() bool { return p.Statuses != nil || p.MinDate != "" }

// hexBytes are bytes in hex.
type hexBytes []byte

// UnmarshalText reads hex.
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// tcbStatuses are those that a policy can allow (Intel PCS API v4).
var tcbStatuses = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded"}

func (p *TCBPolicy) check() error {
	for _, s := range p.Statuses {
		if !slices.Contains(tcbStatuses, s) {
			return fmt.Errorf("tcb.statuses: unknown status %q; there are %s", s, strings.Join(tcbStatuses, ", "))
		}
	}
	if len(p.MinSVN) > 16 {
		return fmt.Errorf("tcb.min_svn has at most 16 bytes, not %d", len(p.MinSVN))
	}
	if p.MinDate == "" {
		return nil
	}
	if _, err := date(p.MinDate); err != nil {
		return fmt.Errorf("tcb.min_date: %w", err)
	}
	return nil
}

// date reads a day, or RFC 3339.
func date(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date like 2025-08-13", text)
}

// old says that a TCB level is of before the rule's date, or of none that can be
// read.
func (p *TCBPolicy) old(of string) bool {
	if p.MinDate == "" {
		return false
	}
	least, err1 := date(p.MinDate)
	got, err2 := date(of)
	return err1 != nil || err2 != nil || got.Before(least)
}

// AgentPolicy is about cimad.
type AgentPolicy struct {
	Anchors     []string `toml:"anchors"`       // default: rtmr3
	AllowNewKey bool     `toml:"allow_new_key"` // a later start event with another key

	// AllowPrivate takes a log that doesn't replay, for nothing is shown of
	// other containers (isolation = "private").
	AllowPrivate bool `toml:"allow_private"`
}

// ContainerPolicy is about evidence of containers. At least one of
// LaunchDigests and ImageDigests is there, or Any.
type ContainerPolicy struct {
	Any           bool         `toml:"any"`            // whatever it runs: the reader looks at the claims
	LaunchDigests []rpc.Digest `toml:"launch_digests"` // what was started, image included
	ImageDigests  []string     `toml:"image_digests"`  // config digests, "sha256:…"
	Start         []string     `toml:"start"`          // default: gated
	Source        []string     `toml:"source"`         // default: bundle, engine
	CgroupOwner   []uint32     `toml:"cgroup_owner"`   // default: 0
	Execs         []rpc.Digest `toml:"execs"`          // if there: execs were measured, and each event's sha384 is one of them
	ExecVerity    []string     `toml:"exec_verity"`    // the same, by fs-verity's digest ("sha256:…"): one of both is enough
	AllowMissed   bool         `toml:"allow_missed"`   // with execs: also execs that the log has no digest of

	Launch *LaunchPolicy `toml:"launch"`
}

// HostPolicy is about evidence of processes outside any container, which is
// refused unless one of its members allows it.
type HostPolicy struct {
	Any   bool     `toml:"any"`
	Units []string `toml:"units"`
}

// PowerPolicy is about containers that could act as root of the guest.
type PowerPolicy struct {
	Allow []string `toml:"allow"` // classes; default: none
}

// EventPattern describes events of the runtime log.
type EventPattern struct {
	Operation string `toml:"operation"`

	// Match are members that the measured object has, with these values;
	// what isn't named here is not looked at.
	Match map[string]any `toml:"match"`
}

// LoadPolicy reads a policy file. Unknown keys are errors that name their
// line.
func LoadPolicy(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// ParsePolicy reads a policy's text.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("more than %d bytes", maxPolicy)
	}
	p := &Policy{}
	meta, err := toml.Decode(string(text), p)
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return nil, fmt.Errorf("line %d: %s", parse.Position.Line, parse.Message)
	}
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("line %d: unknown key %q", lineOf(text, unknown[0]), unknown[0].String())
	}
	for _, key := range meta.Keys() {
		// The reader takes case variants for the key itself.
		if name := key[len(key)-1]; name != strings.ToLower(name) && !slices.Contains(key, "match") && !slices.Contains(key, "mounts") {
			return nil, fmt.Errorf("line %d: unknown key %q: keys are lower-case", lineOf(text, key), key.String())
		}
	}
	p.setDefaults(meta)
	return p, p.check()
}

func (p *Policy) setDefaults(meta toml.MetaData) {
	if !meta.IsDefined("agent", "anchors") {
		p.Agent.Anchors = []string{anchorRTMR3}
	}
	if !meta.IsDefined("container", "start") {
		p.Container.Start = []string{"gated"}
	}
	if !meta.IsDefined("container", "source") {
		p.Container.Source = []string{"bundle", "engine"}
	}
	if !meta.IsDefined("container", "cgroup_owner") {
		p.Container.CgroupOwner = []uint32{0}
	}
}

// check refuses values that can't match anything: a slip of the pen in a
// policy should not look like bad evidence.
func (p *Policy) check() error {
	if p.TCB != nil {
		if err := p.TCB.check(); err != nil {
			return err
		}
	}
	for _, b := range p.Boot {
		if err := b.check(); err != nil {
			return fmt.Errorf("boot %s: %w", bootName(b), err)
		}
	}
	for _, a := range p.Agent.Anchors {
		if a != anchorRTMR3 && a != anchorReportData {
			return fmt.Errorf("agent.anchors: unknown anchor %q; there are %q and %q", a, anchorRTMR3, anchorReportData)
		}
	}
	for _, s := range p.Container.Start {
		if s != "gated" && s != "observed" {
			return fmt.Errorf("container.start: unknown value %q; there are \"gated\" and \"observed\"", s)
		}
	}
	for _, s := range p.Container.Source {
		if !slices.Contains([]string{"bundle", "engine", "user", "none"}, s) {
			return fmt.Errorf("container.source: unknown value %q; there are \"bundle\", \"engine\", \"user\", \"none\"", s)
		}
	}
	if p.Container.Launch != nil {
		if err := p.Container.Launch.check(); err != nil {
			return err
		}
	}
	for _, d := range p.Container.ImageDigests {
		if !isImageDigest(d) {
			return fmt.Errorf("container.image_digests: %q is not \"sha256:\" and 64 lower-case hex digits", d)
		}
	}
	for _, d := range p.Container.ExecVerity {
		if !verityDigest.MatchString(d) {
			return fmt.Errorf("container.exec_verity: %q is neither \"sha256:\" and 64 lower-case hex digits nor \"sha512:\" and 128", d)
		}
	}
	for _, e := range slices.Concat(p.Required, p.Forbidden) {
		if !slices.Contains(operations, e.Operation) {
			return fmt.Errorf("required, forbidden: unknown operation %q; there are %s", e.Operation, strings.Join(operations, ", "))
		}
		if err := checkMembers("required, forbidden: what "+e.Operation+" events measure", e.Match, measuredMembers[e.Operation]); err != nil {
			return err
		}
	}
	return nil
}

var (
	imageDigest  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	verityDigest = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
)

func isImageDigest(s string) bool { return imageDigest.MatchString(s) }

// lineOf finds the line of a key, for the TOML reader doesn't tell it: the
// first one after its table's header.
func lineOf(text []byte, key toml.Key) int {
	want, table := key[:len(key)-1].String(), ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			header, _, _ := strings.Cut(line, "]")
			if table = strings.Trim(header, "[ "); table == key.String() {
				return i + 1
			}
			continue
		}
		name, _, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !found || table != want && table != "" {
			continue
		}
		if name = strings.Trim(name, "\"'"); name == key[len(key)-1] && table == want || table == "" && name == key.String() {
			return i + 1
		}
	}
	return 1
}
