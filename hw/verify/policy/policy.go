// Package policy answers: what is expected?
//
// It reads a relying party's policy, which is a TOML file
// (cima-relying-party(7), POLICY), refuses what can match nothing, and holds boots, launches and events
// against it. It makes a policy from what one evidence shows (Init).
package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// maxPolicy bounds a policy file, in bytes.
const maxPolicy = 1 << 20

// Policy are the reference values and rules of a relying party (RFC 9334),
// as a TOML file has them. What it does not name is not allowed. Parse and Load
// set the defaults, a Policy literal must set them itself.
type Policy struct {
	Boot      []BootValues   `toml:"boot"`
	TD        TD             `toml:"td"`
	TCB       *TCB           `toml:"tcb"`
	Agent     Agent          `toml:"agent"`
	Container Container      `toml:"container"`
	Host      Host           `toml:"host"`
	Power     Power          `toml:"power"`
	Required  []EventPattern `toml:"required"`  // each must match a judged event
	Forbidden []EventPattern `toml:"forbidden"` // none may match a judged event
}

// TD is about the TD itself.
type TD struct {
	AllowDebug bool `toml:"allow_debug"` // a TD whose host can read and write its memory

	// A TD that can be migrated is refused, unless its MRSERVICETD (quotes of
	// TDX 1.5) is one of ServiceTDs, or any is allowed.
	ServiceTDs      []rpc.Digest `toml:"service_tds"`
	AllowMigratable bool         `toml:"allow_migratable"`
}

// Agent is about cimad.
type Agent struct {
	Anchors     []string `toml:"anchors"`       // default: rtmr3
	AllowNewKey bool     `toml:"allow_new_key"` // a later start event with another key

	// AllowPrivate accepts a log that does not replay, because nothing is shown
	// of other containers (isolation = "private").
	AllowPrivate bool `toml:"allow_private"`
}

// Container is about evidence of containers. LaunchDigests, ImageDigests or Any
// must be there, else no container is trusted.
type Container struct {
	Any           bool         `toml:"any"`            // any container: the reader must look at the claims
	LaunchDigests []rpc.Digest `toml:"launch_digests"` // what was asked for, image included
	ImageDigests  []string     `toml:"image_digests"`  // config digests, "sha256:…"
	Start         []string     `toml:"start"`          // default: gated
	Source        []string     `toml:"source"`         // default: bundle, engine
	CgroupOwner   []uint32     `toml:"cgroup_owner"`   // default: 0
	Execs         []rpc.Digest `toml:"execs"`          // if there: execs were measured, and each event's sha384 is one of them
	ExecVerity    []string     `toml:"exec_verity"`    // the same, by fs-verity's digest ("sha256:…"): one of both is enough
	AllowMissed   bool         `toml:"allow_missed"`   // with execs: also execs that the log has no digest of

	// DefaultsDigests are of what the engine added by itself. They change with its version;
	// nil allows any, because the policy's power bounds what an engine adds.
	DefaultsDigests []rpc.Digest `toml:"defaults_digests"`

	References []Reference `toml:"references"`
	Launch     *Launch     `toml:"launch"`
}

// Host is about evidence of processes outside any container, which is
// refused unless one of its members allows it.
type Host struct {
	Any   bool     `toml:"any"`
	Units []string `toml:"units"`
}

// Power is about containers that could act as root of the guest.
type Power struct {
	Allow []string `toml:"allow"` // classes; default: none
}

// Load reads a policy file. Its errors name the file, and as Parse's the line.
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := parse(text, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// Parse reads the text of a policy, in TOML, of at most 1 MiB. It refuses unknown
// keys and values that can match nothing. Errors of TOML and keys name the line. It reads
// no files: a policy that names some is for Load.
func Parse(text []byte) (*Policy, error) { return parse(text, "") }

// parse reads the files that the policy names below dir, unless that is empty.
func parse(text []byte, dir string) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("a policy must have at most %d bytes", maxPolicy)
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
	for _, key := range meta.Undecoded() {
		if !ofEvents(key) {
			return nil, fmt.Errorf("line %d: unknown key %q", lineOf(text, key), key.String())
		}
	}
	for _, key := range meta.Keys() {
		// The TOML reader accepts a key in any case.
		if name := key[len(key)-1]; name != strings.ToLower(name) && !ofEvents(key) {
			return nil, fmt.Errorf("line %d: unknown key %q: keys must be lower-case", lineOf(text, key), key.String())
		}
	}
	p.setDefaults(meta)
	if dir != "" {
		if err := p.readFiles(dir); err != nil {
			return nil, err
		}
	}
	return p, p.Check()
}

// ofEvents reports whether a key names a member of what events measure: Check knows those.
func ofEvents(key toml.Key) bool {
	name := key.String()
	return slices.ContainsFunc([]string{"required.match.", "forbidden.match.", "container.launch.match.", "container.launch.mounts."},
		func(table string) bool { return strings.HasPrefix(name, table) })
}

func (p *Policy) setDefaults(meta toml.MetaData) {
	if !meta.IsDefined("agent", "anchors") {
		p.Agent.Anchors = []string{logs.AnchorRTMR3}
	}
	if !meta.IsDefined("container", "start") {
		p.Container.Start = []string{logs.StartGated}
	}
	if !meta.IsDefined("container", "source") {
		p.Container.Source = []string{logs.SourceBundle, logs.SourceEngine}
	}
	if !meta.IsDefined("container", "cgroup_owner") {
		p.Container.CgroupOwner = []uint32{0}
	}
}
