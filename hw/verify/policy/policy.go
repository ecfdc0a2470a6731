// Package policy answers: what is expected?
//
// It reads a relying party's policy, a TOML file of the form 2 (cima-policy(5)), and holds
// boots, TDs, platforms, launches and events against it. What a policy does not name is
// not allowed, and what it can't match is refused when it is read, with file, line and a
// proposal. What an evaluation costs grows with policy and evidence, and not with their
// product.
package policy

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/platform"
	"github.com/cima-project/cima/hw/verify/revoked"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs/canonical"
)

// maxPolicy bounds a policy file, in bytes.
const maxPolicy = 1 << 20

// form is the only form of policies that is read.
const form = 2

// errTooMuch is no verdict: nothing is known of the evidence then.
var errTooMuch = errors.New("the evidence takes too much work to be judged by this policy")

// Source is a file of a policy.
type Source struct {
	File   string           `json:"file"`
	SHA384 canonical.Digest `json:"sha384"`
	Name   string           `json:"name,omitempty"`
	Until  time.Time        `json:"until,omitzero"`

	SignedBy string `json:"signed_by,omitempty"` // by whose key, where the caller of Parse checked a signature
}

// Policy are the reference values and rules of a relying party (RFC 9334).
type Policy struct {
	Sources []Source // the policy's file, and that of revocations

	valid             []validity // of each source
	wishes            codes.Wish
	td                tdRules
	guest             *guest.Rules
	platform          *platform.Rules
	fresh             freshness
	power, powerKinds []string // classes, and first parts of classes, as "mount"
	firmwares         map[string]*firmware
	systems           map[string]*system
	measured          map[string]*measured
	vtpms             map[string]*vtpm
	images            map[string]*image
	boots             []*bootRule
	containers        []*container
	host              host
	required          []*pattern
	forbidden         []*pattern
	revoked           revoked.List
	references        []launches.Measured

	index *index
	bytes int // of all files
}

// Load reads a policy, and a second file of revocations where one is named.
func Load(path string, revocations ...string) (*Policy, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	p, err := Parse(path, text)
	for _, path := range revocations {
		if err != nil {
			return nil, err
		}
		if text, err = read(path); err == nil {
			err = p.Revoke(path, text)
		}
	}
	return p, err
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return text, nil
}

// Parse reads the text of a policy, in TOML, of at most 1 MiB; name is the file's, for
// messages. Its errors are *Error, several joined.
func Parse(name string, text []byte) (*Policy, error) {
	t, err := tables.Read(name, text, maxPolicy)
	if err != nil {
		return nil, err
	}
	if err := checkForm(t); err != nil {
		return nil, err
	}
	p := &Policy{revoked: make(revoked.List), bytes: len(text)}
	p.source(t, text)
	p.wishes = codes.Read(t)
	leaves := make(match.Leaves)
	p.rules(t, leaves)
	p.names(t)
	for _, t := range t.All("boot") {
		p.boots = append(p.boots, readBoot(t))
	}
	for _, t := range t.All("container") {
		p.containers = append(p.containers, readContainer(t, leaves))
	}
	p.required, p.forbidden = readPatterns(t, "required", leaves), readPatterns(t, "forbidden", leaves)
	p.revoked.Read(t)
	p.readReferences(t)
	t.Title = "a policy"
	t.Done()
	if t.Errors() == nil {
		p.refer(t)
	}
	if err := t.Errors(); err != nil {
		return nil, err
	}
	p.index = p.makeIndex()
	return p, nil
}

// Revoke adds the revocations of a second file, which has nothing else.
func (p *Policy) Revoke(name string, text []byte) error {
	t, err := tables.Read(name, text, maxPolicy)
	if err != nil {
		return err
	}
	if err := checkForm(t); err != nil {
		return err
	}
	p.source(t, text)
	if p.revoked.Read(t) == 0 {
		t.Fault("", "a file of revocations must have [[revoked]]")
	}
	t.Title = "a file of revocations"
	t.Done()
	p.bytes += len(text)
	return t.Errors()
}

// checkForm refuses policies of another form.
func checkForm(t *tables.Table) error {
	v, ok := t.Take("cima_policy")
	switch {
	case v == int64(form):
		return nil
	case ok:
		return &tables.Error{File: t.Name, Line: t.Line("cima_policy"), Text: fmt.Sprintf("cima_policy must be %d: this version reads no other form", form)}
	}
	return &tables.Error{File: t.Name, Line: 1, Text: fmt.Sprintf("cima_policy = %d must be there; hint: a policy without it is of form 1, which is no longer read: \"cimactl policy convert\" translates it, \"cimactl policy init\" writes form 2 from evidence", form)}
}

// source notes a file, its name and its validity.
func (p *Policy) source(t *tables.Table, text []byte) {
	v := readValidity(t)
	p.valid = append(p.valid, v)
	p.Sources = append(p.Sources, Source{File: t.Name, SHA384: sha512.Sum384(text), Name: t.Text("name"), Until: v.until})
}

// rules reads the tables that are there once.
func (p *Policy) rules(t *tables.Table, leaves match.Leaves) {
	td, _ := t.One("td")
	p.td = readTD(td)
	td.Done()
	fresh, _ := t.One("freshness")
	p.fresh = readFreshness(fresh)
	fresh.Done()
	snp, _ := t.One("snp")
	p.guest = guest.Read(snp, p.fresh.collateral)
	snp.Done()
	tcb, _ := t.One("tcb")
	p.platform = platform.Read(tcb, p.fresh.collateral)
	tcb.Done()
	power, _ := t.One("power")
	// A kind is a class's first part without its colon: one with a colon is none.
	p.power, p.powerKinds = power.Texts("allow", isClass), power.Texts("allow_kinds", func(kind string) string { return isClass(strings.ReplaceAll(kind, ":", "/") + ":x") })
	power.Done()
	h, there := t.One("host")
	p.host = readHost(h, there, leaves)
	h.Done()
}

// names reads the tables that have names.
func (p *Policy) names(t *tables.Table) {
	p.firmwares, p.systems, p.images = make(map[string]*firmware), make(map[string]*system), make(map[string]*image)
	p.measured = make(map[string]*measured)
	for name, t := range t.Named("measured") {
		p.measured[name] = readMeasured(t, name)
	}
	for name, t := range t.Named("firmware") {
		p.firmwares[name] = readFirmware(t, name)
	}
	for name, t := range t.Named("system") {
		p.systems[name] = readSystem(t, name)
	}
	p.vtpms = make(map[string]*vtpm)
	for name, t := range t.Named("vtpm") {
		p.vtpms[name] = readVTPM(t, name)
	}
	for name, t := range t.Named("image") {
		p.images[name] = readImage(t, name)
	}
}

// refer refuses names that nothing has, and those that nothing uses.
func (p *Policy) refer(t *tables.Table) {
	used := make(map[string]bool)
	refer := func(at, title, kind string, wanted, known []string) {
		for _, name := range wanted {
			if used[kind+name] = true; !slices.Contains(known, name) {
				t.Fault(at, "%s: there is no [%s.%s]%s", title, kind, name, tables.Near(name, known))
			}
		}
	}
	bootNames := make(map[string]bool)
	for i, b := range p.boots {
		at, title := tables.Path("boot", i), fmt.Sprintf("boot %q", b.name)
		if bootNames[b.name] {
			t.Fault(at, "%s: its name must be there once", title)
		}
		bootNames[b.name] = true
		refer(tables.Path(at, "firmware"), title, "firmware", b.firmware, sorted(p.firmwares))
		refer(tables.Path(at, "system"), title, "system", b.system, sorted(p.systems))
		refer(tables.Path(at, "measured"), title, "measured", b.measured, sorted(p.measured))
		refer(tables.Path(at, "vtpm"), title, "vtpm", b.vtpm, sorted(p.vtpms))
	}
	for i, c := range p.containers {
		at, title := tables.Path("container", i), fmt.Sprintf("container %q", c.name)
		refer(tables.Path(at, "image"), title, "image", c.image, sorted(p.images))
		for _, name := range c.boot {
			if !bootNames[name] {
				t.Fault(tables.Path(at, "boot"), "%s: there is no [[boot]] %q%s", title, name, tables.Near(name, sorted(bootNames)))
			}
		}
	}
	for kind, known := range map[string][]string{"firmware": sorted(p.firmwares), "system": sorted(p.systems), "measured": sorted(p.measured), "vtpm": sorted(p.vtpms), "image": sorted(p.images)} {
		for _, name := range known {
			if !used[kind+name] {
				t.Fault(tables.Path(kind, name), "nothing uses [%s.%s]", kind, name)
			}
		}
	}
}

func sorted[T any](of map[string]T) []string { return slices.Sorted(maps.Keys(of)) }

// Read reports whether the policy comes from Parse or Load, and not from nowhere.
func (p *Policy) Read() bool { return p.index != nil }

// Knows reports whether the policy says anything of boots, and of callers or what the log
// must have.
func (p *Policy) Knows() (boots, callers bool) {
	return len(p.boots) > 0, len(p.containers) > 0 || p.host.any || len(p.host.units) > 0 || len(p.required) > 0
}

// Platform are the rules of [tcb]; nil without a policy.
func (p *Policy) Platform() *platform.Rules {
	if p == nil {
		return nil
	}
	return p.platform
}

// Guest are the rules of [snp]; nil without a policy.
func (p *Policy) Guest() *guest.Rules {
	if p == nil {
		return nil
	}
	return p.guest
}

// Revoked holds digests of any kind against [[revoked]] at that time: of firmware, boot
// events, TDX module, agent, images, layers, launches and programs.
func (p *Policy) Revoked(digests iter.Seq2[string, string], at time.Time) []string {
	return p.revoked.Find(digests, at)
}

// Valid says why the policy counts for nothing at a time, "" if it counts.
func (p *Policy) Valid(at time.Time) string {
	for i, v := range p.valid {
		if out := v.out(at); out != "" {
			return fmt.Sprintf("the policy %s %s: it trusts nothing", p.Sources[i].File, out)
		}
	}
	return ""
}

// Wishes are what the policy waives and demands, with the boot and the container that
// fit, where there are any; nil without a policy.
func (p *Policy) Wishes(b *Boot, c *Container) codes.Wishes {
	if p == nil {
		return nil
	}
	w := codes.Wishes{p.wishes}
	if b != nil {
		w = append(w, b.wishes...)
	}
	if c != nil {
		w = append(w, c.wishes...)
	}
	return w
}
