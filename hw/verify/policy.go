package verify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

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
