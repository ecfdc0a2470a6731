package computed

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/cima-project/cima/hw/verify/policy"
)

// Image is [image.NAME].
type Image struct {
	Name    string
	Digests []ImageDigest
}

// ImageDigest is one that an image is known by, and who says so.
type ImageDigest struct{ Digest, Origin string }

var imageDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Write writes the table.
func (i Image) Write() ([]byte, error) {
	w := &writer{}
	if len(i.Digests) == 0 {
		return nil, errors.New("an image must have a digest")
	}
	w.table("[image."+text(i.Name)+"]", "")
	w.b.WriteString("digests = [\n")
	for _, d := range i.Digests {
		if !imageDigest.MatchString(d.Digest) {
			return nil, fmt.Errorf(`the digest %.80q must be "sha256:" and 64 lower-case hex digits`, d.Digest)
		}
		fmt.Fprintf(&w.b, "  %q,  # %s\n", d.Digest, oneLine(d.Origin))
	}
	w.b.WriteString("]\n")
	use := fmt.Sprintf("[[container]]\nname = \"x\"\nimage = %s\n", text(i.Name))
	if _, err := policy.Parse("policy", []byte("cima_policy = 2\n"+w.b.String()+use)); err != nil {
		return nil, fmt.Errorf("the table that was made can't be read: %w", err)
	}
	return w.b.Bytes(), nil
}
