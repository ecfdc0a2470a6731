package evidence

import (
	"encoding/json/v2"
	"slices"

	"github.com/cima-project/cima/logs"
)

// PowerClasses are the classes of all power events, each once. An event that can't be read,
// or has none, has a class that no policy can allow.
func (ev *Bundle) PowerClasses() (classes []string) {
	for e := range ev.ShownEvents() {
		if e.Operation != logs.OpPower {
			continue
		}
		of := powerClasses(e)
		if len(of) == 0 {
			of = []string{"(not known)"}
		}
		classes = append(classes, of...)
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// powerClasses are the classes in a power event. Where they can't be read there
// are none, and no policy allows that.
func powerClasses(e *logs.Event) []string {
	var power logs.PowerBody
	if json.Unmarshal(e.Body(), &power) != nil {
		return nil
	}
	return power.Classes
}

// MissedLaunches reports whether the log shows that containers were started
// unmeasured. One that ended before the daemon saw it could have had any power.
func (ev *Bundle) MissedLaunches() bool {
	for e := range ev.ShownEvents() {
		var missed logs.MissedBody
		if e.Operation == logs.OpMissed && (json.Unmarshal(e.Body(), &missed) != nil || missed.What != logs.MissedExec) {
			return true
		}
	}
	return false
}
