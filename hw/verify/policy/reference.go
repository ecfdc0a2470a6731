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
	"github.com/cima-project/cima/logs/canonical"
)

// Reference is what one of the launch digests stands for. It allows nothing by itself: a
// refusal is explained by it.
type Reference struct {
	Launch string `toml:"launch"` // measured.launch, in JSON; defaults, limits and entrypoint may be left out
	Image  string `toml:"image"`  // measured.image, in JSON
	File   string `toml:"file"`   // of a JSON object with both, relative to the policy's file
}

// maxReference bounds a reference's file, in bytes. An event has at most 256 KiB.
const maxReference = 1 << 20

// readFiles reads the references' files.
func (p *Policy) readFiles(dir string) error {
	for i := range p.Container.References {
		r := &p.Container.References[i]
		if r.File == "" {
			continue
		}
		if r.Launch != "" || r.Image != "" {
			return errors.New("container.references: a reference must have a file, or launch and image, and not both")
		}
		path := r.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if err := r.read(path); err != nil {
			return fmt.Errorf("container.references: %w", err)
		}
	}
	return nil
}

func (r *Reference) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReference+1))
	if err != nil {
		return err
	}
	if len(text) > maxReference {
		return fmt.Errorf("%s must have at most %d bytes", path, maxReference)
	}
	// Other members say nothing that the launch digest covers.
	var both struct {
		Launch jsontext.Value `json:"launch"`
		Image  jsontext.Value `json:"image"`
	}
	if err := canonical.Decode(text, &both); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if both.Launch == nil || both.Image == nil {
		return fmt.Errorf("%s must be an object with launch and image, as cimactl predict --json prints it", path)
	}
	r.Launch, r.Image = string(both.Launch), string(both.Image)
	return nil
}

// measured reads a reference.
func (r *Reference) measured() (m launches.Measured, err error) {
	if r.Launch == "" || r.Image == "" {
		if r.File != "" {
			return m, fmt.Errorf("file %q is not read here: the policy must be loaded from a file too", r.File)
		}
		return m, errors.New("must have launch and image, or a file of both")
	}
	launch, err := canonical.Marshal(jsontext.Value(r.Launch))
	if err != nil {
		return m, fmt.Errorf("launch: %w", err)
	}
	image, err := canonical.Marshal(jsontext.Value(r.Image))
	if err != nil {
		return m, fmt.Errorf("image: %w", err)
	}
	if m.Launch, err = launches.ReadReference(launch); err != nil {
		return m, fmt.Errorf("launch: %w", err)
	}
	if m.Image, err = launches.ReadImage(image); err != nil {
		return m, fmt.Errorf("image: %w", err)
	}
	return m, nil
}

// references reads all references, and refuses those that explain no launch digest of the
// policy's.
func (c *Container) references() (all []launches.Measured, err error) {
	for _, r := range c.References {
		m, err := r.measured()
		if err != nil {
			return nil, fmt.Errorf("container.references: %w", err)
		}
		digest, err := m.Digest()
		if err != nil {
			return nil, fmt.Errorf("container.references: %w", err)
		}
		if !slices.Contains(c.LaunchDigests, digest) {
			return nil, fmt.Errorf("container.references: launch and image have the launch digest %v, which must be among launch_digests", digest)
		}
		all = append(all, m)
	}
	return all, nil
}

// Explanation is why a launch is none of those that a policy knows.
type Explanation struct {
	Known  bool                  // the policy says what a launch digest of its own stands for
	Differ []launches.Difference // from the nearest launch known, or from none at all
	More   int                   // facts that differ and are not in Differ
}

// maxDiffer is how many facts an explanation has.
const maxDiffer = 20

// Explain says in which facts a launch differs from the nearest one that the policy
// knows. If it knows none, they are all facts of the launch.
func (c *Container) Explain(got launches.Measured) Explanation {
	return c.explain(got, launches.Measured.Against, launches.Measured.Facts)
}

// ExplainDefaults is Explain for what the engine added.
func (c *Container) ExplainDefaults(got launches.Measured) Explanation {
	return c.explain(got, launches.Measured.DefaultsAgainst, launches.Measured.DefaultsFacts)
}

func (c *Container) explain(got launches.Measured, against func(want, got launches.Measured) []launches.Difference,
	facts func(launches.Measured) []launches.Difference) Explanation {
	known, _ := c.references() // without an error: Check has read them
	var differ []launches.Difference
	for i, want := range known {
		if d := against(want, got); i == 0 || len(d) < len(differ) {
			differ = d
		}
	}
	if len(known) == 0 {
		differ = facts(got)
	}
	shown := differ[:min(len(differ), maxDiffer)]
	return Explanation{Known: len(known) > 0, Differ: shown, More: len(differ) - len(shown)}
}
