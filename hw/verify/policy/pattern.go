package policy

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

// operations are those of the events that a pattern can match.
var operations = []string{logs.OpStart, logs.OpPolicy, logs.OpSeal, logs.OpSystem, logs.OpPower, logs.OpLaunch,
	logs.OpImage, logs.OpMounted, logs.OpExec, logs.OpExtend, logs.OpMissed, logs.OpIMA}

// EventPattern describes events of the runtime log.
type EventPattern struct {
	Operation string `toml:"operation"`

	// Match are members that the measured object has, with these values;
	// what is not named here is not checked.
	Match map[string]any `toml:"match"`
}

func (p EventPattern) check() error {
	if !slices.Contains(operations, p.Operation) {
		return fmt.Errorf("required, forbidden: operation %q is unknown: it must be one of %s", p.Operation, strings.Join(operations, ", "))
	}
	what := "required, forbidden: what " + p.Operation + " events measure"
	if p.Operation == logs.OpLaunch {
		return checkLaunchMembers(what, p.Match)
	}
	return checkMembers(what, p.Match, measuredMembers[p.Operation])
}

// MayMatch reports whether the event matches, or could match: what isn't shown, for it
// is too large or an earlier version's, may be anything.
func (p EventPattern) MayMatch(e *logs.Event) bool {
	if p.Matches(e) {
		return true
	}
	var body map[string]any
	if e.Operation != p.Operation || json.Unmarshal(e.Body(), &body) != nil {
		return false
	}
	shown := make(map[string]any)
	for name, v := range p.Match {
		if !hideable[e.Operation+"."+name] || body[name] != nil {
			shown[name] = v
		}
	}
	return len(shown) < len(p.Match) && launchHas(body, shown)
}

// hideable are members that an event may lack though the container has such: they were too
// large, or an earlier version logged the launch.
var hideable = map[string]bool{"launch.asked": true, "launch.defaults": true, "launch.limits": true, "launch.image_config": true, "mounted.mounts": true}

// Matches reports whether the event is of the operation and has the members.
func (p EventPattern) Matches(e *logs.Event) bool {
	if e.Operation != p.Operation {
		return false
	}
	if len(p.Match) == 0 {
		return true
	}
	var body map[string]any
	if json.Unmarshal(e.Body(), &body) != nil {
		return false
	}
	if p.Operation == logs.OpLaunch {
		return launchHas(body, p.Match)
	}
	return has(body, p.Match)
}

// asWritten makes one text of equal values, and null of nil.
var asWritten = json.JoinOptions(json.Deterministic(true), json.FormatNilSliceAsNull(true),
	json.FormatNilMapAsNull(true), jsontext.AllowInvalidUTF8(true))

// asJSON turns a TOML value into what its JSON decodes to.
func asJSON(v any) any {
	text, err := json.Marshal(v, asWritten)
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}

// String is the pattern as people read it.
func (p EventPattern) String() string {
	if len(p.Match) == 0 {
		return p.Operation
	}
	text, err := json.Marshal(p.Match, asWritten)
	if err != nil {
		return p.Operation
	}
	return p.Operation + " " + string(text)
}
