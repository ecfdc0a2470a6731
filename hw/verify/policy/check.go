package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/logs"
)

// Check refuses values that can't match anything: a slip of the pen in a policy
// must not look like bad evidence.
func (p *Policy) Check() error {
	for _, b := range p.Boot {
		if err := b.check(); err != nil {
			return fmt.Errorf("boot %s: %w", b.Title(), err)
		}
	}
	for _, k := range p.keys() {
		if err := k.check(); err != nil {
			return err
		}
	}
	if err := p.checkDigests(); err != nil {
		return err
	}
	if p.TCB != nil {
		if err := p.TCB.check(); err != nil {
			return err
		}
	}
	if p.Container.Launch != nil {
		if err := p.Container.Launch.check(); err != nil {
			return err
		}
	}
	if _, err := p.Container.references(); err != nil {
		return err
	}
	if err := p.Power.check(); err != nil {
		return err
	}
	for _, e := range slices.Concat(p.Required, p.Forbidden) {
		if err := e.check(); err != nil {
			return err
		}
	}
	return nil
}

// key is a key of a policy whose values must be among those that are allowed.
type key struct {
	name    string
	noun    string // for one of its values
	values  []string
	allowed []string
}

func (p *Policy) keys() []key {
	return []key{
		{"agent.anchors", "anchor", p.Agent.Anchors, []string{logs.AnchorRTMR3, logs.AnchorReportData}},
		{"container.start", "value", p.Container.Start, []string{logs.StartGated, logs.StartObserved}},
		{"container.source", "value", p.Container.Source, []string{logs.SourceBundle, logs.SourceEngine, logs.SourceUser, logs.SourceNone}},
		{"tcb.statuses", "status", p.statuses(), tcbStatuses},
	}
}

func (k key) check() error {
	for _, v := range k.values {
		if !slices.Contains(k.allowed, v) {
			return fmt.Errorf("%s: %s %q is unknown: it must be one of %s", k.name, k.noun, v, strings.Join(k.allowed, ", "))
		}
	}
	return nil
}

func (p *Policy) checkDigests() error {
	for _, d := range p.Container.ImageDigests {
		if !isImageDigest(d) {
			return fmt.Errorf("container.image_digests: %q must be \"sha256:\" and 64 lower-case hex digits", d)
		}
	}
	for _, d := range p.Container.ExecVerity {
		if !verityDigest.MatchString(d) {
			return fmt.Errorf("container.exec_verity: %q must be \"sha256:\" and 64 lower-case hex digits, or \"sha512:\" and 128", d)
		}
	}
	return nil
}

var (
	imageDigest  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	verityDigest = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
)

func isImageDigest(s string) bool { return imageDigest.MatchString(s) }

// lineOf finds the line of a key: the first one after the header of its table.
// The TOML reader doesn't report it.
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
