package policy

import (
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs/canonical"
)

// maxReference bounds a reference's file, in bytes. An event has at most 256 KiB.
const maxReference = 1 << 20

// maxReferences bounds [[reference]]: an explanation compares a launch with each.
const maxReferences = 256

// readReferences reads [[reference]]: what a launch digest stands for. A reference allows
// nothing by itself: a refusal is explained by it.
func (p *Policy) readReferences(t *tables.Table) {
	list := t.All("reference")
	if len(list) > maxReferences {
		t.Bad("reference", "there at most %d times", maxReferences)
		return
	}
	for _, t := range list {
		m, err := readReference(t)
		t.Done()
		if err != nil {
			t.Fault(t.Path, "%s: %v", t.Title, err)
			continue
		}
		digest, err := m.Digest()
		if err != nil {
			t.Fault(t.Path, "%s: %v", t.Title, err)
			continue
		}
		if !slices.ContainsFunc(p.containers, func(c *container) bool { return slices.Contains(c.launch, digest.String()) }) {
			t.Fault(t.Path, "%s: its launch digest is %v, which a [[container]] must have as launch", t.Title, digest)
		}
		p.references = append(p.references, m)
	}
}

func readReference(t *tables.Table) (m launches.Measured, err error) {
	launch, image, file := t.Text("launch"), t.Text("image"), t.Text("file")
	switch {
	case file != "" && launch+image != "", file == "" && (launch == "" || image == ""):
		return m, errors.New("must have launch and image, or a file of both, and not both")
	case file != "":
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(t.Name), file)
		}
		if launch, image, err = readBoth(file); err != nil {
			return m, err
		}
	}
	canonicalLaunch, err := canonical.Marshal(jsontext.Value(launch))
	if err != nil {
		return m, fmt.Errorf("launch: %w", err)
	}
	canonicalImage, err := canonical.Marshal(jsontext.Value(image))
	if err != nil {
		return m, fmt.Errorf("image: %w", err)
	}
	if m.Launch, err = launches.ReadReference(canonicalLaunch); err != nil {
		return m, fmt.Errorf("launch: %w", err)
	}
	if m.Image, err = launches.ReadImage(canonicalImage); err != nil {
		return m, fmt.Errorf("image: %w", err)
	}
	return m, nil
}

// readBoth reads what cimactl predict --json prints.
func readBoth(path string) (launch, image string, err error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", "", fmt.Errorf("%s must be a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReference+1))
	if err != nil {
		return "", "", err
	}
	if len(text) > maxReference {
		return "", "", fmt.Errorf("%s must have at most %d bytes", path, maxReference)
	}
	// Other members say nothing that the launch digest covers.
	var both struct {
		Launch jsontext.Value `json:"launch"`
		Image  jsontext.Value `json:"image"`
	}
	if err := canonical.Decode(text, &both); err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	if both.Launch == nil || both.Image == nil {
		return "", "", fmt.Errorf("%s must be an object with launch and image, as cimactl predict --json prints it", path)
	}
	return string(both.Launch), string(both.Image), nil
}

// maxDiffer is how many facts an explanation has.
const maxDiffer = 20

// Explain says in which facts a launch differs from the nearest one that the policy
// knows. If it knows none, they are all facts of the launch.
func (p *Policy) Explain(got launches.Measured) launches.Explanation {
	return p.explain(got, launches.Measured.Against, launches.Measured.Facts)
}

// ExplainDefaults is Explain for what the engine added.
func (p *Policy) ExplainDefaults(got launches.Measured) launches.Explanation {
	return p.explain(got, launches.Measured.DefaultsAgainst, launches.Measured.DefaultsFacts)
}

func (p *Policy) explain(got launches.Measured, against func(want, got launches.Measured) []launches.Difference,
	facts func(launches.Measured) []launches.Difference) launches.Explanation {
	var differ []launches.Difference
	for i, want := range p.references {
		if d := against(want, got); i == 0 || len(d) < len(differ) {
			differ = d
		}
	}
	if len(p.references) == 0 {
		differ = facts(got)
	}
	shown := differ[:min(len(differ), maxDiffer)]
	return launches.Explanation{Known: len(p.references) > 0, Differ: shown, More: len(differ) - len(shown)}
}

// KnowsDefaults reports whether an alternative names a defaults digest.
func (p *Policy) KnowsDefaults(d canonical.Digest) bool {
	return slices.ContainsFunc(p.containers, func(c *container) bool { return slices.Contains(c.defaults, d.String()) })
}

// BindsDefaults reports whether an alternative names a defaults digest.
func (p *Policy) BindsDefaults() bool {
	return slices.ContainsFunc(p.containers, func(c *container) bool { return len(c.defaults) > 0 })
}
