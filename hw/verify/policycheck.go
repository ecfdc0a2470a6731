package verify

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

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
