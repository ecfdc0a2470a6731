package policy

import (
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
	"github.com/cima-project/cima/logs"
)

// maxPatterns bounds [[required]] and [[forbidden]] together: each is held against each
// event of its operation.
const maxPatterns = 128

// pattern is [[required]] or [[forbidden]]: events of the runtime log.
type pattern struct {
	operation string
	match     match.Match
}

// eventNames are the members of what events measure, by operation (cima-evidence(7),
// Operations).
var eventNames = map[string]match.Names{
	logs.OpStart: membersOf[logs.StartBody](), logs.OpPolicy: membersOf[logs.PolicyBody](), logs.OpSeal: membersOf[logs.SealBody](),
	logs.OpSystem: membersOf[logs.SystemBody](), logs.OpPower: membersOf[logs.PowerBody](), logs.OpMounted: membersOf[logs.MountedBody](),
	logs.OpExec: membersOf[logs.ExecBody](), logs.OpExtend: membersOf[logs.ExtendBody](), logs.OpMissed: membersOf[logs.MissedBody](),
	logs.OpIMA: membersOf[logs.IMABody](), logs.OpLaunch: withoutImage(), logs.OpImage: launchNames["image"],
}

// withoutImage are a launch event's own members.
func withoutImage() match.Names {
	n := make(match.Names)
	for name, below := range launchNames {
		if name != "image" && name != "claims" {
			n[name] = below
		}
	}
	return n
}

// membersOf are the names of a struct's members in JSON.
func membersOf[T any]() match.Names {
	n := make(match.Names)
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		n[name] = nil
	}
	return n
}

func readPatterns(t *tables.Table, kind string, leaves match.Leaves) (found []*pattern) {
	list := t.All(kind)
	if len(list) > maxPatterns {
		t.Bad(kind, "there at most %d times", maxPatterns)
		return nil
	}
	for _, t := range list {
		p := &pattern{operation: t.Text("operation")}
		if must := tables.OneOf("operation", sorted(eventNames))(p.operation); must != "" {
			t.Bad("operation", "a %s", must)
		}
		p.match = match.Read(t, eventNames[p.operation], leaves)
		t.Done()
		found = append(found, p)
	}
	return found
}

// Events holds the events of a log against [[required]] and [[forbidden]], one by one.
type Events struct {
	Places match.Places // where the mounts of the container lead

	p    *Policy
	seen map[*pattern]bool
	work *match.Meter
}

// Events begins with no event.
func (p *Policy) Events() *Events {
	return &Events{p: p, seen: make(map[*pattern]bool), work: match.NewMeter(p.bytes)}
}

// Judge notes an event: a public one, or one of the container's latest instance.
func (e *Events) Judge(event *logs.Event) error {
	var doc *match.Document
	for _, p := range slices.Concat(e.p.required, e.p.forbidden) {
		if p.operation == event.Operation && doc == nil {
			root, err := match.ReadObject(event.Body())
			if err != nil {
				return err
			}
			match.Launch(root, &e.Places)
			e.work.Allow(len(event.Body()) + maxPatterns)
			doc = match.NewDocument(root, e.work)
		}
	}
	if doc == nil {
		return nil
	}
	for _, p := range e.p.required {
		if p.operation != event.Operation {
			continue
		}
		missing, _ := doc.Against(p.match)
		// Of start and policy events the last one counts, because it says what is in force.
		last := p.operation == logs.OpStart || p.operation == logs.OpPolicy
		e.seen[p] = missing == 0 || e.seen[p] && !last
	}
	for _, p := range e.p.forbidden {
		if p.operation == event.Operation && doc.MayMeet(p.match) {
			e.seen[p] = true
		}
	}
	if e.work.TooMuch() {
		return errTooMuch
	}
	return nil
}

// wanted.Findings are what the events that were judged come to.
func (e *Events) Findings() (found wanted.Findings) {
	for _, p := range e.p.required {
		found.Want(e.seen[p], "event "+p.String(), "there", there(e.seen[p]))
	}
	for _, p := range e.p.forbidden {
		found.Want(!e.seen[p], "event "+p.String(), "not there", there(e.seen[p]))
	}
	return found
}

func there(yes bool) string {
	if yes {
		return "there"
	}
	return "not there"
}

// String is the pattern as people read it.
func (p *pattern) String() string {
	return tables.Clip(strings.TrimSpace(p.operation + " " + p.match.String()))
}
