package page

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
)

// event is a row of the timeline.
type event struct {
	Kind     string // a class of the style sheet: those of kinds
	Number   string
	Register string // that a boot event extends; the runtime log has one, which the page names once
	Name     string
	Words    string // what an operation means
	Detail   string // one line
	Body     string // JSON, or digests; "" where Detail says all
	Digest   string // hex; "" for a run of events
	Later    bool   // it came after the claims were fixed, and is not judged
}

// kind is a filter of the timeline.
type kind struct {
	Class, Words string
	Count        int
}

// chunk is how many rows are laid out together: those that nobody sees are not.
const chunk = 100

// meanings say what an operation of the runtime log means (cima-evidence(7), Operations).
var meanings = map[string]string{
	logs.OpStart:   "the agent started",
	logs.OpPolicy:  "the agent's configuration",
	logs.OpSeal:    "the agent was ready",
	logs.OpSystem:  "a service of the host",
	logs.OpPower:   "a container could act as root of the guest",
	logs.OpMounted: "where mounts lead",
	logs.OpLaunch:  "a container was started",
	logs.OpImage:   "the image that it was made of",
	logs.OpExec:    "a program was executed",
	logs.OpExit:    "a container ended",
	logs.OpExtend:  "an event of the container's own",
	logs.OpMissed:  "something was not measured",
	logs.OpIMA:     "entries of the kernel's IMA log",
}

func (m *model) readEvents(files []replay.Event, r *verify.Result) {
	var list []event
	for _, e := range files {
		list = append(list, ofFile(e))
	}
	if r != nil {
		own := ""
		if r.Claims != nil && r.Claims.Container != nil {
			own = r.Claims.Container.ID
		}
		for _, e := range r.Events {
			list = append(list, ofRuntime(e, own))
		}
	}
	list = folded(list)
	kinds := []kind{{"boot", "boot", 0}, {"ima", "IMA", 0}, {"public", "public", 0}, {"own", "this container's", 0}, {"others", "others'", 0}}
	for _, e := range list {
		for i := range kinds {
			if kinds[i].Class == e.Kind {
				kinds[i].Count++
			}
		}
	}
	for _, k := range kinds {
		if k.Count > 0 {
			m.Kinds = append(m.Kinds, k)
		}
	}
	m.Events = len(list)
	for len(list) > 0 {
		n := min(chunk, len(list))
		m.Chunks, list = append(m.Chunks, list[:n]), list[n:]
	}
}

// ofFile is an event of a log that was read as a file.
func ofFile(e replay.Event) event {
	shown := event{Kind: e.Log, Number: fmt.Sprintf("%s %d", e.Log, e.Number), Register: plain(strings.ToUpper(e.Register)), Name: plain(e.Type), Detail: long(e.Detail), Digest: hex.EncodeToString(e.Digest)}
	switch {
	case e.Type == "?":
		shown.Kind, shown.Name, shown.Detail = "others", "of others", ""
	case e.Log == "runtime":
		shown.Kind, shown.Words, shown.Register = "public", meanings[e.Type], ""
	}
	return shown
}

// ofRuntime is an event of evidence.
func ofRuntime(e verify.Event, own string) event {
	shown := event{Number: fmt.Sprintf("runtime %d", e.Position), Name: plain(e.Operation), Words: meanings[e.Operation], Digest: e.Digest.String(), Later: !e.Judged}
	switch {
	case e.Operation == "":
		shown.Kind, shown.Name = "others", "of others"
		return shown
	case e.Container == "":
		shown.Kind = "public"
	case e.Container == own:
		shown.Kind = "own"
	default:
		shown.Kind = "others"
		shown.Words += ", container " + plain(replay.ShortID(e.Container))
	}
	shown.Detail = gist(e.Operation, e.Measured)
	shown.Body = indented(e.Measured)
	return shown
}

// folded puts runs of events of which only digests are shown into one row each.
func folded(list []event) (rows []event) {
	for i := 0; i < len(list); {
		n := 1
		for bare(list[i]) && i+n < len(list) && bare(list[i+n]) && list[i].Later == list[i+n].Later {
			n++
		}
		if n == 1 {
			rows = append(rows, list[i])
			i++
			continue
		}
		run := list[i : i+n]
		one := run[0]
		one.Number = fmt.Sprintf("%s to %s", one.Number, run[n-1].Number)
		one.Detail = fmt.Sprintf("%d events, of which only the digests are shown", n)
		var digests strings.Builder
		for _, e := range run {
			digests.WriteString(e.Digest + "\n")
		}
		one.Body, one.Digest = digests.String(), ""
		rows = append(rows, one)
		i += n
	}
	return rows
}

// bare reports whether nothing but the digest of an event is known.
func bare(e event) bool { return e.Kind == "others" && e.Detail == "" && e.Body == "" }
