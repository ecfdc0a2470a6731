// Package launches answers: what does a launch event say, and in what do two launches
// differ?
//
// It reads the bodies of launch and image events (cima-evidence(7), LAUNCH), and refuses
// what it doesn't know: a member that no reader looks at could mean anything. It computes
// launch digest and defaults digest from them. It shares no code with the daemon that
// writes them.
package launches

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// Launch is the body of a launch event.
type Launch struct {
	Source      string
	CgroupOwner uint32

	// Earlier says that a daemon logged it by the rules of evidence profile v1, before it
	// was upgraded. Then nothing but Source and CgroupOwner is known.
	Earlier bool

	Asked       jsontext.Value // nil where the event has its digest alone, or where Source is none
	defaults    jsontext.Value // likewise
	ImageConfig string         // "" where it is unknown
	Pod         Pod            // zero where it is of none

	AskedDigest    canonical.Digest // SHA-384(JCS(asked)); zero where Source is none
	DefaultsDigest canonical.Digest // SHA-384(JCS(defaults)), the defaults digest; zero where Source is none
}

// Pod is the pod that a container is of, by the word of the CRI plugin.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Container string `json:"container"`
}

// members are those of a launch, by name.
type members map[string]jsontext.Value

// Read reads measured.launch, which must be canonical.
func Read(body jsontext.Value) (*Launch, error) {
	m, err := object(body)
	if err != nil {
		return nil, err
	}
	return m.launch()
}

// ReadReference reads what somebody expects of a launch: who predicts one needn't know
// what the engine will add. It must be canonical.
func ReadReference(body jsontext.Value) (*Launch, error) {
	m, err := object(body)
	if err != nil {
		return nil, err
	}
	if m.earlier() {
		return nil, errors.New("must be of evidence profile v2, not v1")
	}
	_, shown := m["defaults"]
	_, condensed := m["defaults_sha384"]
	predicted := !shown && !condensed && m["asked"] != nil
	if predicted {
		m["defaults"] = jsontext.Value("{}")
	}
	l, err := m.launch()
	if err == nil && predicted {
		l.defaults, l.DefaultsDigest = nil, canonical.Digest{}
	}
	return l, err
}

func (m members) launch() (l *Launch, err error) {
	l = &Launch{}
	if err := errors.Join(m.text("source", &l.Source, sources...), m.number("cgroup_owner", &l.CgroupOwner)); err != nil {
		return nil, err
	}
	if m.earlier() {
		l.Earlier = true
		return l, nil
	}
	if err := known("launch", m, Members); err != nil {
		return nil, err
	}
	if l.Source == logs.SourceNone {
		return l, m.nothing()
	}
	if l.Asked, err = m.part("asked", AskedMembers, &l.AskedDigest); err != nil {
		return nil, err
	}
	if l.defaults, err = m.part("defaults", DefaultsMembers, &l.DefaultsDigest); err != nil {
		return nil, err
	}
	return l, l.readRest(m)
}

// nothing refuses facts of a launch of which nothing is known.
func (m members) nothing() error {
	if len(m) > 2 {
		return fmt.Errorf("a launch of the source %q must have no facts", logs.SourceNone)
	}
	return nil
}

// readRest reads what may be missing. Limits and the entrypoint's file are in no digest.
func (l *Launch) readRest(m members) error {
	if config, ok := m["image_config"]; ok {
		if json.Unmarshal(config, &l.ImageConfig) != nil || !imageDigest.MatchString(l.ImageConfig) {
			return errors.New(`image_config must be "sha256:" and 64 lower-case hex digits`)
		}
	}
	if limits, ok := m["limits"]; ok {
		if l.Asked == nil {
			return errors.New("limits must be left out where asked is too large to be shown")
		}
		if _, err := object(limits); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	if err := l.readPod(m["pod"]); err != nil {
		return err
	}
	if entrypoint, ok := m["entrypoint"]; ok {
		file, err := object(entrypoint)
		if err != nil {
			return fmt.Errorf("entrypoint: %w", err)
		}
		if file["path"] == nil {
			return errors.New("entrypoint must have a path")
		}
		return known("entrypoint", file, entrypointMembers)
	}
	return nil
}

func (l *Launch) readPod(pod jsontext.Value) error {
	if pod == nil {
		return nil
	}
	of, err := object(pod)
	if err == nil {
		err = known("pod", of, PodMembers)
	}
	if err == nil {
		err = json.Unmarshal(pod, &l.Pod)
	}
	if err == nil && l.Pod == (Pod{}) {
		err = errors.New("must say something, or be left out")
	}
	if err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	return nil
}

var (
	sources     = []string{logs.SourceBundle, logs.SourceEngine, logs.SourceUser, logs.SourceNone}
	imageDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// part reads asked or defaults, or the digest that stands for it.
func (m members) part(name string, names []string, digest *canonical.Digest) (jsontext.Value, error) {
	whole, shown := m[name]
	sum, condensed := m[name+"_sha384"]
	if shown == condensed {
		return nil, fmt.Errorf("must have %s or %s_sha384, and not both", name, name)
	}
	if condensed {
		if err := json.Unmarshal(sum, digest); err != nil {
			return nil, fmt.Errorf("%s_sha384: %w", name, err)
		}
		return nil, nil
	}
	inner, err := object(whole)
	if err == nil {
		err = known(name, inner, names)
	}
	if err == nil {
		*digest, err = canonical.Sum(whole)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return whole, nil
}

// earlier reports whether the launch has the members of profile v1, and none of another.
func (m members) earlier() bool {
	_, user := m["user"]
	_, capabilities := m["capabilities"]
	return user && capabilities && known("", m, earlierMembers) == nil
}

func (m members) text(name string, to *string, allowed ...string) error {
	if json.Unmarshal(m[name], to) != nil || !slices.Contains(allowed, *to) {
		return fmt.Errorf("%s must be one of %s", name, strings.Join(allowed, ", "))
	}
	return nil
}

func (m members) number(name string, to *uint32) error {
	if json.Unmarshal(m[name], to) != nil {
		return fmt.Errorf("%s must be a number of 32 bits", name)
	}
	return nil
}

func object(value jsontext.Value) (members, error) {
	var m members
	if value.Kind() != jsontext.KindBeginObject || json.Unmarshal(value, &m) != nil {
		return nil, errors.New("must be an object")
	}
	return m, nil
}

// known refuses members that no list names.
func known(what string, m members, names []string) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s has the unknown member %.64q", what, name)
		}
	}
	return nil
}
