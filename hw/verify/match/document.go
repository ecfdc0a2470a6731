package match

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// Document is what a match is held against: JSON, of which each leaf is judged once.
type Document struct {
	root   map[string]any
	judged map[*leaf]verdict
	work   *Meter
}

type verdict struct {
	answer
	got any
}

// ReadObject reads an object. It must be canonical: so each name is there once.
func ReadObject(body jsontext.Value) (map[string]any, error) {
	object := make(map[string]any)
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("an event's body: %w", err)
	}
	return object, nil
}

// value finds what stands at a path.
func (d *Document) value(path []string) any {
	var at any = d.root
	for i, name := range path {
		object, ok := asObject(at)
		if !ok {
			return absence{}
		}
		next := member(object, name)
		if _, none := next.(absence); none && hidden(object, path[:i+1]) {
			return unseen{}
		}
		at = next
	}
	return at
}

// hidden reports whether the evidence has a digest in the place of a member, or says
// that nothing is known of the image.
func hidden(object map[string]any, path []string) bool {
	name := path[len(path)-1]
	_, condensed := object[name+"_sha384"]
	_, nothing := object["absent"]
	return condensed || nothing && len(path) == 2 && path[0] == "image" && name != "absent"
}

func (d *Document) judge(l *leaf) verdict {
	if v, known := d.judged[l]; known {
		return v
	}
	got := d.value(l.path)
	v := verdict{l.meets(got, d.work), got}
	d.judged[l] = v
	return v
}

// Against counts the leaves that are not met, and returns the first.
func (d *Document) Against(m Match) (missing int, first *leaf) {
	for _, l := range m {
		d.work.Add(1)
		if d.judge(l).answer != yes {
			if missing++; missing == 1 {
				first = l
			}
		}
	}
	return missing, first
}

// Differs describes how a leaf is not met.
func (d *Document) Differs(l *leaf) string {
	return fmt.Sprintf("%s is %s, want %s", strings.Join(l.path, "."), inJSON(d.judge(l).got), l.comparison)
}

// maxFacts is how many facts are shown that differ, and as many that don't.
const maxFacts = 20

// Facts says of each leaf what was wanted and what there is: first of those that differ. Of
// a leaf that is met both are what there is.
func (d *Document) Facts(m Match) wanted.Findings {
	var differ, same wanted.Findings
	more := 0
	for _, l := range m {
		v := d.judge(l)
		what, want, got := tables.Clip("match."+strings.Join(l.path, ".")), tables.Clip(l.comparison.String()), inJSON(v.got)
		switch {
		case v.answer == yes && len(same) < maxFacts:
			same.Want(true, what, got, got)
		case v.answer == yes:
		case len(differ) == maxFacts:
			more++
		case want == got: // as far as they are shown
			differ.Want(false, what, "another than "+got, got)
		default:
			differ.Want(false, what, want, got)
		}
	}
	if more > 0 {
		differ.Want(false, "more facts that differ", "0", fmt.Sprint(more))
	}
	return append(differ, same...)
}

// NewDocument makes a document of an object. What judging costs is added to work.
func NewDocument(root map[string]any, work *Meter) *Document {
	return &Document{root, make(map[*leaf]verdict), work}
}

// Get is the value at a path; nil where there is none, or it is not shown.
func (d *Document) Get(path ...string) any {
	switch v := d.value(path).(type) {
	case absence, unseen:
		return nil
	default:
		return v
	}
}

// MayMeet reports whether the match is met, or could be: what is not shown may be anything.
func (d *Document) MayMeet(m Match) bool {
	return !slices.ContainsFunc(m, func(l *leaf) bool { return d.judge(l).answer == no })
}

// Meter counts work.
type Meter struct{ done, most int }

// NewMeter counts up to what is allowed for policy and evidence of so many bytes.
func NewMeter(bytes int) *Meter { return &Meter{most: 1<<20 + workPerByte*bytes} }

// workPerByte is how many steps a byte of policy or evidence may cost.
const workPerByte = 16

// Add counts steps.
func (m *Meter) Add(n int) { m.done += n }

// Allow allows for more evidence.
func (m *Meter) Allow(bytes int) { m.most += workPerByte * bytes }

// Done is how many steps were counted.
func (m *Meter) Done() int { return m.done }

// TooMuch reports whether it is more than is allowed.
func (m *Meter) TooMuch() bool { return m.done > m.most }
