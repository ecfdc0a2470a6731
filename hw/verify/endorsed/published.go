package endorsed

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/cima-project/cima/logs/canonical"
)

// Published are values that somebody publishes: those of machines apart from those of
// systems, because any system may run on any machine.
type Published struct {
	Publisher string              `json:"publisher"`
	Hardware  map[string]Hardware `json:"hardware,omitempty"`
	Code      map[string]Code     `json:"code,omitempty"`
}

// Hardware is what a machine's firmware measures as.
type Hardware struct {
	MRTD  []canonical.Digest `json:"mrtd"`
	RTMR0 canonical.Digest   `json:"rtmr0"`
}

// Code is what a system measures as.
type Code struct {
	RTMR1     canonical.Digest `json:"rtmr1"`
	RTMR2     canonical.Digest `json:"rtmr2"`
	Line      string           `json:"line,omitempty"`
	Root      string           `json:"root,omitempty"`
	HostInput []string         `json:"host_input,omitempty"`
}

// maxNames bounds the machines and systems of one file.
const maxNames = 1000

var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ReadPublished reads published values, in JSON. No member may be unknown, and no value
// missing or zero.
func ReadPublished(text []byte) (*Published, error) {
	p := new(Published)
	if err := canonical.Unmarshal(text, p); err != nil {
		return nil, err
	}
	if p.Publisher == "" || len(p.Hardware)+len(p.Code) == 0 || len(p.Hardware)+len(p.Code) > maxNames {
		return nil, fmt.Errorf("there must be a publisher, and 1 to %d machines and systems", maxNames)
	}
	zero := canonical.Digest{}
	for n, h := range p.Hardware {
		if !name.MatchString(n) || len(h.MRTD) == 0 || len(h.MRTD) > maxNames || slices.Contains(h.MRTD, zero) || h.RTMR0 == zero {
			return nil, fmt.Errorf("hardware %.80q must have a plain name, mrtd and rtmr0, which are not zero", n)
		}
	}
	for n, c := range p.Code {
		if !name.MatchString(n) || c.RTMR1 == zero || c.RTMR2 == zero {
			return nil, fmt.Errorf("code %.80q must have a plain name, rtmr1 and rtmr2, which are not zero", n)
		}
	}
	return p, nil
}
