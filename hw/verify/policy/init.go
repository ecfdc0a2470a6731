package policy

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Seen is what one evidence shows, which must be authentic.
type Seen struct {
	Booted Booted
	TD     TD             // the rules under which the TD passes
	TCB    *dcap.TCBLevel // nil without collateral
	Claims *rpc.Claims
	NewKey bool    // the agent had another key after a restart
	Events []Event // the judged ones
}

// Event is one event of the runtime log.
type Event struct {
	Operation string
	Container string         // ID; "" for public events
	Measured  jsontext.Value // the event's object; nil where it measures nothing
}

// Init writes a commented policy that allows what the evidence shows and nothing
// else.
func Init(seen Seen) ([]byte, error) {
	w := &writer{seen: seen}
	w.comment(
		"Reference values for \"cimactl verify --policy\", made from one evidence by",
		"\"cimactl policy init\". They say: what I saw once is what I trust. CHECK EACH",
		"VALUE: nothing here says who wrote it. Compare the registers with those that",
		"the image's builder publishes, and the digests with those of your own build.")
	w.boot()
	w.tcb()
	w.agent()
	if seen.Claims.Container != nil {
		w.container()
	} else {
		w.host()
	}
	w.power()
	w.events()
	text := w.b.Bytes()
	if _, err := Parse(text); err != nil {
		return nil, fmt.Errorf("the policy that was made can't be read: %w", err)
	}
	return text, nil
}

type writer struct {
	seen Seen
	b    bytes.Buffer
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

func (w *writer) boot() {
	w.table("[[boot]]",
		"What was booted: firmware (mrtd, rtmr0), boot loader, kernel and its command",
		"line (rtmr1, rtmr2). Everything else rests on it. One table per known boot.")
	w.value("name", "as first seen")
	w.value("mrtd", w.seen.Booted.MRTD)
	for i, v := range w.seen.Booted.RTMR {
		w.value(fmt.Sprintf("rtmr%d", i), v)
	}
	if w.seen.Booted.Further {
		w.comment("The operating system extends RTMR2 after the boot (IMA): the value is the boot's.")
		w.value("os_log", true)
	}
	w.td()
}

func (w *writer) td() {
	open := w.seen.TD
	if open.AllowDebug {
		w.table("[td]", "A TD under debug hides nothing from its host. Never in production.")
		w.value("allow_debug", true)
	}
	if open.ServiceTDs == nil && !open.AllowMigratable {
		return
	}
	if !open.AllowDebug {
		w.table("[td]")
	}
	w.comment("The TD can be migrated: whoever wrote the migration TD can read its memory.")
	if open.AllowMigratable {
		w.value("allow_migratable", true)
	} else {
		w.value("service_tds", open.ServiceTDs)
	}
}

func (w *writer) tcb() {
	t := w.seen.TCB
	if t == nil {
		return
	}
	w.table("[tcb]",
		"The platform's patch level, by Intel's word. Statuses: UpToDate is best;",
		"min_date is that of the level. With this table evidence needs collateral.")
	w.value("statuses", []string{t.Status})
	w.value("min_date", t.Date)
}

func (w *writer) agent() {
	w.table("[agent]",
		"anchors: \"rtmr3\" means that the log replays to the hardware's register;",
		"\"report-data\" that the agent's word alone holds it.")
	w.value("anchors", []string{w.seen.Claims.Log.Anchor})
	if w.seen.Claims.Log.View == rpc.ViewPrivate {
		w.comment("The log doesn't replay: nothing is shown of other containers.")
		w.value("allow_private", true)
	}
	if w.seen.NewKey {
		w.comment("The agent had another key after a restart: so would something that passes for it.")
		w.value("allow_new_key", true)
	}
}

func (w *writer) container() {
	c := w.seen.Claims.Container
	w.table("[container]",
		"launch_digests: what was asked for, image and arguments and mounts and all; the",
		"references below say it in full. image_digests: the image alone; take out",
		"launch_digests and references to allow any way of starting it. Where both are",
		"there, both must fit.",
		fmt.Sprintf("Seen: %s, container %s", quoted(c.Image), quoted(c.ID)))
	w.value("launch_digests", []string{c.LaunchDigest.String()})
	if c.DefaultsDigest != (rpc.Digest{}) {
		w.comment("defaults_digests: what the engine added by itself. An upgrade of it may change that:",
			"defaults_digests = "+tomlValue([]string{c.DefaultsDigest.String()}))
	}
	if isImageDigest(c.ImageDigest) {
		w.value("image_digests", []string{c.ImageDigest})
	}
	w.comment("start: \"gated\" was measured before its first instruction, \"observed\" after it.")
	start := []string{logs.StartGated}
	if c.Assurance.Start != logs.StartGated {
		start = append(start, c.Assurance.Start)
	}
	w.value("start", start)
	w.comment("source: where the facts of the launch come from; cgroup_owner: uid 0 is root.")
	w.value("source", []string{w.source()})
	w.value("cgroup_owner", []uint32{c.Assurance.CgroupOwner})
	w.launch()
	if execs, verity := w.execs(); len(execs)+len(verity) > 0 {
		w.comment("execs: SHA-384 of the programs that the log shows. One that isn't shown is no",
			"proof that it did not run.")
		w.value("execs", execs)
		if len(verity) > 0 {
			w.comment("exec_verity: fs-verity's digests of those that have no SHA-384, for their size.")
			w.value("exec_verity", verity)
		}
		if w.gaps() {
			w.comment("allow_missed: the log tells of programs that have no digest. Any could have run.")
			w.value("allow_missed", true)
		}
	}
	w.reference()
}

// reference writes what the launch digest stands for. It must be the container's last
// key: it is a table of its own.
func (w *writer) reference() {
	m, err := launches.Read(w.last(logs.OpLaunch))
	if err != nil || m.Earlier {
		return
	}
	image, err := launches.ReadImage(w.last(logs.OpImage))
	if err != nil {
		return
	}
	image.Layers = nil // not in the digest
	facts := map[string]any{"source": m.Source, "cgroup_owner": m.CgroupOwner}
	add := func(name string, shown jsontext.Value, digest rpc.Digest) {
		if shown != nil {
			facts[name] = shown
		} else if digest != (rpc.Digest{}) {
			facts[name+"_sha384"] = digest
		}
	}
	add("asked", m.Asked, m.AskedDigest)
	add("defaults", nil, m.DefaultsDigest) // by its digest: it is long
	if m.ImageConfig != "" {
		facts["image_config"] = m.ImageConfig
	}
	w.table("[[container.references]]",
		"What the launch digest stands for (cima-evidence(7), LAUNCH). It allows nothing by",
		"itself: where evidence has another launch, the facts that differ are shown.")
	w.text("launch", facts)
	w.text("image", image)
}

// last is what the last event of an operation measured, in the container's latest
// instance.
func (w *writer) last(operation string) (body jsontext.Value) {
	for _, e := range w.seen.Events {
		if e.Operation == operation && e.Container == w.seen.Claims.Container.ID {
			var measured map[string]jsontext.Value
			if json.Unmarshal(e.Measured, &measured) == nil {
				body = measured[operation]
			}
		}
	}
	return body
}

// text writes a value as indented JSON, which can be read and compared.
func (w *writer) text(key string, v any) {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil || bytes.Contains(text, []byte("'''")) || bytes.ContainsRune(text, 0x7f) {
		w.value(key, inJSON(v)) // no literal string of TOML can have these
		return
	}
	fmt.Fprintf(&w.b, "%s = '''\n%s'''\n", key, text)
}

// gaps reports whether the log shows a program without a digest.
func (w *writer) gaps() bool {
	return slices.ContainsFunc(w.bodies(logs.OpExec), func(exec map[string]any) bool { return exec["sha384"] == nil && exec["verity"] == nil }) ||
		slices.ContainsFunc(w.bodies(logs.OpMissed), func(missed map[string]any) bool { return missed["what"] != logs.MissedLaunch })
}

// bodies are what the events of one operation measured, in the container's
// latest instance. Events of other containers, which an unredacted log also
// shows, don't count.
func (w *writer) bodies(operation string) []map[string]any {
	var found []map[string]any
	for _, e := range w.seen.Events {
		if c := w.seen.Claims.Container; e.Container != "" && (c == nil || c.ID != e.Container) {
			continue
		}
		if e.Operation == logs.OpLaunch {
			found = nil
		}
		if e.Operation != operation {
			continue
		}
		var measured map[string]map[string]any
		if json.Unmarshal(e.Measured, &measured) == nil {
			found = append(found, measured[operation])
		}
	}
	return found
}

// launch shows how launches are allowed by their facts.
func (w *writer) launch() {
	for _, launch := range w.bodies(logs.OpLaunch) {
		asked, _ := launch["asked"].(map[string]any)
		if arguments, ok := asked["arguments"]; ok {
			w.comment("In the place of launch_digests and references, with image_digests, single facts of",
				"the launch; see cima-evidence(7). No others are looked at then.",
				"launch = { arguments = "+replay.Clip(tomlValue(arguments), 200)+", capabilities = [], mounts = [] }")
		}
	}
}

func (w *writer) source() string {
	for _, launch := range w.bodies(logs.OpLaunch) {
		if s, ok := launch["source"].(string); ok {
			return s
		}
	}
	return logs.SourceNone
}

// execs are the digests of what was executed, and fs-verity's of what has no
// other.
func (w *writer) execs() (digests, verity []string) {
	digests = []string{}
	for _, exec := range w.bodies(logs.OpExec) {
		s, ok := exec["sha384"].(string)
		v, guarded := exec["verity"].(string)
		switch {
		case ok && !slices.Contains(digests, s):
			digests = append(digests, s)
		case !ok && guarded && !slices.Contains(verity, v):
			verity = append(verity, v)
		}
	}
	return digests, verity
}

func (w *writer) host() {
	w.table("[host]", "Processes outside any container, by systemd unit: the agent's word alone.")
	if unit := w.seen.Claims.Host.Unit; unit != "" {
		w.value("units", []string{unit})
		return
	}
	w.comment("This one is of no unit, so any process of the host is allowed.")
	w.value("any", true)
}

func (w *writer) power() {
	w.table("[power]",
		"Classes of power that some container may have: each could act as root of the",
		"guest, and so on the agent itself. Best left empty.")
	var classes []string
	for _, e := range w.seen.Events {
		if e.Operation != logs.OpPower {
			continue
		}
		var measured struct {
			Power logs.PowerBody `json:"power"`
		}
		if json.Unmarshal(e.Measured, &measured) == nil {
			classes = append(classes, measured.Power.Classes...)
		}
	}
	slices.Sort(classes)
	classes = slices.Compact(classes)
	unknown := slices.Clone(classes)
	unknown = slices.DeleteFunc(unknown, knownClass)
	w.value("allow", slices.DeleteFunc(classes, func(class string) bool { return !knownClass(class) }))
	if len(unknown) > 0 {
		w.comment("The evidence shows classes that this version doesn't know, so that none can allow them:",
			quoted(strings.Join(unknown, ", ")))
	}
}

func (w *writer) events() {
	w.b.WriteString(`
# Events that must be in the log, or must not, public or of this container, by
# operation and, where that is too broad, by members of what was measured:
#[[required]]
#operation = "extend"
#match = { domain = "app", operation = "load" }
#[[forbidden]]
#operation = "missed"
`)
}

// tomlValue writes a value: JSON's strings, arrays, numbers and booleans are
// TOML's too, but TOML wants DEL escaped.
func tomlValue(v any) string {
	text, err := json.Marshal(v, asWritten)
	if err != nil {
		panic(err) // strings and digests alone
	}
	if string(text) == "null" {
		return "[]"
	}
	return strings.ReplaceAll(string(text), "\x7f", `\u007f`)
}

// quoted makes text of others fit one line of a comment.
func quoted(s string) string { return fmt.Sprintf("%q", replay.Clip(s, 200)) }
