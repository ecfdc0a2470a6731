// Package firstseen answers: which policy does evidence meet that somebody holds for good?
//
// It writes a commented policy (cima-policy(5)) from what one or several evidences show.
// It says of each value that it was seen, and vouches for none: power is never allowed,
// missed starts are forbidden, and what is not proved is not waived, unless somebody names
// it.
package firstseen

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Seen is what one evidence shows, which must be authentic.
type Seen struct {
	Booted policy.Booted
	TD     policy.TD
	SNP    *snp.Attestation // of an SNP guest, which has no TD
	Line   snp.Line         // of its processor
	Status string           // of the TCB; "" without collateral
	Date   time.Time        // of its level
	Claims *rpc.Claims
	Gaps   []string // codes of what is not proved and stands in the way
	Events []Event  // the judged ones
}

// Event is one event of the runtime log.
type Event struct {
	Operation string
	Container string         // ID; "" for public events
	Measured  jsontext.Value // the event's object; nil where it measures nothing
}

// Policy writes a policy from evidence. waive are the codes of what it accepts though it
// is not proved. notes are for who called: what the policy refuses of what was seen, and
// words that look as if they were used once.
func Policy(seen []Seen, waive []string) (text []byte, notes []string, err error) {
	for _, code := range waive {
		if c, ok := codes.Of(code); !ok || !c.Stands && code != codes.Executions {
			var can []string
			for _, c := range codes.All() {
				if c.Stands || c.Name == codes.Executions {
					can = append(can, c.Name)
				}
			}
			return nil, nil, fmt.Errorf("%q can't be waived%s: cima-policy(5), NOT PROVED, has the codes that can", code, tables.Near(code, can))
		}
	}
	w := &writer{seen: seen, waive: waive}
	w.comment(
		"Reference values for \"cimactl verify --policy\", made from evidence by \"cimactl",
		"policy init\" (cima-policy(5)). They say: what I saw once is what I trust.",
		"CHECK EACH VALUE: nothing here says who wrote it. Compare registers with those that",
		"the image's builder publishes, and digests with those of your own build.")
	guests, tpms := 0, 0
	for _, s := range seen {
		if s.SNP != nil {
			guests++
		}
		if s.Booted.PCRs != nil {
			tpms++
		}
	}
	if guests > 0 && guests < len(seen) || tpms > 0 && tpms < len(seen) {
		return nil, nil, errors.New("a policy must be made from evidence of one platform: make one of each")
	}
	w.value("cima_policy", 2)
	w.value("name", "as first seen")
	w.waived()
	if guests > 0 {
		w.guests()
	} else {
		w.td()
		w.tcb()
	}
	switch {
	case tpms > 0:
		w.vtpms()
	case guests > 0:
		w.measured()
	default:
		w.boots()
	}
	w.callers()
	w.power()
	w.events()
	w.references()
	text = w.b.Bytes()
	if _, err := policy.Parse("policy", text); err != nil {
		return nil, nil, fmt.Errorf("the policy that was made can't be read: %w", err)
	}
	return text, w.notes, nil
}

type writer struct {
	seen  []Seen
	waive []string
	b     bytes.Buffer
	notes []string
}

func (w *writer) comment(lines ...string) {
	for _, l := range lines {
		fmt.Fprintf(&w.b, "# %s\n", l)
	}
}

func (w *writer) table(header string, comments ...string) {
	w.b.WriteByte('\n')
	w.comment(comments...)
	fmt.Fprintf(&w.b, "%s\n", header)
}

func (w *writer) value(key string, v any) { fmt.Fprintf(&w.b, "%s = %s\n", key, tomlValue(v)) }

// asSeen writes a value that nobody vouches for.
func (w *writer) asSeen(key string, v any) {
	fmt.Fprintf(&w.b, "%s = %s  # as first seen\n", key, tomlValue(v))
}

func (w *writer) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// waived writes which gaps there are. Somebody must decide on each.
func (w *writer) waived() {
	var open []string
	for _, s := range w.seen {
		open = append(open, s.Gaps...)
		switch {
		case s.Booted.PCRs != nil:
			open = append(open, codes.Root, codes.HostUnknown)
		case s.SNP != nil:
			open = append(open, codes.BootFirmware)
		default:
			open = append(open, gapsOf(lineOf(s.Booted.Log))...)
		}
	}
	open = slices.DeleteFunc(open, func(code string) bool { return code == codes.Nonce }) // whoever verifies sends one
	open = unique(append(open, w.waive...))
	if len(open) == 0 {
		return
	}
	w.b.WriteByte('\n')
	w.comment("What is not proved of it stands in the way of trust. Take a line in for what you",
		"accept; better, prove it (cima-policy(5), NOT PROVED).")
	w.b.WriteString("waive = [\n")
	for _, code := range open {
		mark := "#  "
		if slices.Contains(w.waive, code) {
			mark = "   "
		}
		c, _ := codes.Of(code)
		fmt.Fprintf(&w.b, "%s%q, # %s\n", mark, code, c.What)
	}
	w.b.WriteString("]\n")
}

func (w *writer) td() {
	var lines []string
	add := func(key string, values []string, unless string) {
		if values = unique(values); len(values) > 0 && !slices.Equal(values, []string{unless}) {
			lines = append(lines, fmt.Sprintf("%s = %s  # as first seen", key, tomlValue(values)))
		}
	}
	each := func(f func(td policy.TD) []string) (all []string) {
		for _, s := range w.seen {
			all = append(all, f(s.TD)...)
		}
		return all
	}
	if line := w.attributes(); line != "" {
		lines = append(lines, line)
	}
	var all []policy.TD
	for _, s := range w.seen {
		all = append(all, s.TD)
	}
	if features := policy.Features(all); features != "" {
		lines = append(lines, fmt.Sprintf("xfam = %q  # as first seen", features))
	}
	add("devinfo", each(func(td policy.TD) []string {
		if td.Extended == nil {
			return nil
		}
		return []string{policy.ValueWord(td.Extended.DeviceInfo)}
	}), "zero")
	add("vmid", each(func(td policy.TD) []string {
		if td.Extended == nil {
			return nil
		}
		return []string{fmt.Sprint(td.Extended.VMID)}
	}), "0")
	add("mrconfigid", each(func(td policy.TD) []string { return []string{policy.ValueWord(td.ConfigID)} }), "zero")
	add("mrowner", each(func(td policy.TD) []string { return []string{policy.ValueWord(td.Owner)} }), "zero")
	add("mrownerconfig", each(func(td policy.TD) []string { return []string{policy.ValueWord(td.OwnerConfig)} }), "zero")
	add("service_tds", each(policy.TD.ServiceTDs), "")
	if len(lines) > 0 {
		w.table("[td]", "What is unusual of the TD.")
		w.b.WriteString(strings.Join(lines, "\n") + "\n")
	}
}

// attributes writes TDATTRIBUTES where they are unusual. A policy has one list of them.
func (w *writer) attributes() string {
	first, _ := w.seen[0].TD.Odd()
	for _, s := range w.seen {
		set, reserved := s.TD.Odd()
		if reserved {
			w.note("TDATTRIBUTES has reserved bits, which nothing allows")
		}
		if slices.Contains(set, "debug") {
			w.note("the TD is under debug, and hides nothing from its host: never in production")
		}
		if !slices.Equal(set, first) || (set == nil) != (first == nil) {
			w.note("the TDs have different TDATTRIBUTES, of which the policy takes the first's: make a policy for each")
			break
		}
	}
	if first == nil {
		return ""
	}
	return fmt.Sprintf("attributes = %s  # exactly these, as first seen", tomlValue(first))
}

func (w *writer) tcb() {
	var statuses []string
	var oldest time.Time
	for _, s := range w.seen {
		if s.Status == "" {
			return // without collateral nothing is known of it
		}
		statuses = append(statuses, s.Status)
		if oldest.IsZero() || s.Date.Before(oldest) {
			oldest = s.Date
		}
	}
	w.table("[tcb]", "The platform's patch level, by Intel's word: UpToDate is best.")
	w.asSeen("statuses", unique(statuses))
	fmt.Fprintf(&w.b, "min_date = %s  # as first seen\n", oldest.UTC().Format(time.DateOnly))
}

// bodies are what the events of one operation measured: public ones, or those of the
// container's latest instance. Events of other containers, which an unredacted log also shows, don't count.
func (s *Seen) bodies(operation string) (found []jsontext.Value) {
	for _, e := range s.Events {
		if c := s.Claims.Container; e.Container != "" && (c == nil || c.ID != e.Container) {
			continue
		}
		if e.Operation == logs.OpLaunch && !logs.Public(operation) {
			found = nil
		}
		var measured map[string]jsontext.Value
		if e.Operation == operation && json.Unmarshal(e.Measured, &measured) == nil {
			found = append(found, measured[operation])
		}
	}
	return found
}

func unique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// tomlValue writes a value: JSON's strings, arrays, numbers and booleans are TOML's too,
// but TOML wants DEL escaped.
func tomlValue(v any) string {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings, numbers and lists alone
	}
	return strings.ReplaceAll(string(text), "\x7f", `\u007f`)
}

// quoted makes text of others fit one line of a comment.
func quoted(s string) string { return fmt.Sprintf("%q", tables.Clip(s)) }
