package firstseen

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// callers writes the containers, each launch once, and the processes of the host.
func (w *writer) callers() {
	images := make(map[string]string) // digest → name
	launchesSeen := make(map[rpc.Digest]bool)
	var units []string
	hosts := false
	for i := range w.seen {
		s := &w.seen[i]
		c := s.Claims.Container
		if c == nil {
			hosts = true
			if unit := s.Claims.Host.Unit; unit != "" {
				units = append(units, unit)
			}
			continue
		}
		if launchesSeen[c.LaunchDigest] {
			continue
		}
		launchesSeen[c.LaunchDigest] = true
		if digestOfImage.MatchString(c.ImageDigest) && images[c.ImageDigest] == "" {
			name := nameOf(c.Image, len(images)+1, images)
			images[c.ImageDigest] = name
			w.table(fmt.Sprintf("[image.%q]", name), "Seen: "+quoted(c.Image))
			w.asSeen("digests", c.ImageDigest)
		}
		w.container(s, images[c.ImageDigest], len(launchesSeen))
	}
	if hosts {
		w.host(unique(units))
	}
}

var (
	digestOfImage = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	plainName     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,40}$`)
)

// nameOf is the last word of an image's reference, where that is a name and free.
func nameOf(reference string, number int, taken map[string]string) string {
	word, _, _ := strings.Cut(path.Base(reference), ":")
	word, _, _ = strings.Cut(word, "@")
	if plainName.MatchString(word) {
		for _, name := range taken {
			if name == word {
				return fmt.Sprint(word, "-", number)
			}
		}
		return word
	}
	return fmt.Sprint("image-", number)
}

func (w *writer) container(s *Seen, image string, number int) {
	c := s.Claims.Container
	w.table("[[container]]",
		"launch: what was asked for, image and arguments and mounts and all; the reference",
		"below says it in full. Take launch and reference out to allow any way of starting the",
		"image, and say with match what counts.",
		"Seen: container "+quoted(c.ID))
	w.value("name", fmt.Sprint("first seen ", number))
	if image != "" {
		w.value("image", image)
	}
	w.asSeen("launch", c.LaunchDigest)
	if c.DefaultsDigest != (rpc.Digest{}) {
		w.comment("What the engine added by itself. An upgrade of it may change that:",
			"defaults = "+tomlValue(c.DefaultsDigest))
	}
	if bodies := s.bodies(logs.OpLaunch); len(bodies) > 0 {
		w.launch(s, bodies[0])
	}
	if c.Assurance.CgroupOwner != 0 {
		w.asSeen("cgroup_owner", c.Assurance.CgroupOwner)
	}
	if execs := s.execs(); len(execs) > 0 {
		w.comment("The programs that the log shows, by SHA-384, or by fs-verity's digest. With this key",
			"executions must be measured.")
		w.asSeen("execs", execs)
	}
}

// launch writes what a launch has beyond its digest, and warns of words used once.
func (w *writer) launch(s *Seen, body jsontext.Value) {
	l, err := launches.Read(body)
	if err != nil {
		return
	}
	if l.Source != logs.SourceBundle && l.Source != logs.SourceEngine {
		w.asSeen("source", l.Source)
	}
	var asked struct {
		Arguments []any `json:"arguments"`
	}
	if l.Asked == nil || json.Unmarshal(l.Asked, &asked) != nil {
		return
	}
	for i, a := range asked.Arguments {
		if text, ok := a.(string); ok && usedOnce(text) && !readsStdin(asked.Arguments[i:]) {
			w.comment(fmt.Sprintf("WARNING: argument %d, %s, looks as if it were used once: another start has another", i, quoted(text)),
				"launch digest then.")
			w.note("argument %d of container %.12s, %s, looks as if it were used once: match on asked.arguments says what counts", i, s.Claims.Container.ID, quoted(text))
		}
	}
}

var (
	longHex  = regexp.MustCompile(`(^|[^0-9a-f])[0-9a-f]{24,}($|[^0-9a-f])`)
	uuid     = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`)
	onceWord = regexp.MustCompile(`(?i)\b(nonce|token|otp|session|secret|password|timestamp)\b`)
	today    = regexp.MustCompile(`20[0-9]{2}-[01][0-9]-[0-3][0-9]`)
	digestOf = regexp.MustCompile(`sha(256|384|512):[0-9a-f]{64,}`)
)

// usedOnce reports whether a word looks like a nonce, an id, a date or a password.
func usedOnce(word string) bool {
	word = digestOf.ReplaceAllString(word, "")
	return longHex.MatchString(word) || uuid.MatchString(word) || onceWord.MatchString(word) || today.MatchString(word)
}

// readsStdin reports whether words begin with a flag and "-": what it takes comes by stdin,
// and is no part of the launch.
func readsStdin(words []any) bool {
	flag, _ := words[0].(string)
	return len(words) > 1 && words[1] == "-" && strings.HasPrefix(flag, "--") && !strings.Contains(flag, "=")
}

// execs are the digests of what was executed, fs-verity's of what has no other.
func (s *Seen) execs() (digests []string) {
	for _, body := range s.bodies(logs.OpExec) {
		var exec logs.ExecBody
		if json.Unmarshal(body, &exec) != nil {
			continue
		}
		switch {
		case exec.SHA384 != nil:
			digests = append(digests, exec.SHA384.String())
		case exec.Verity != "":
			digests = append(digests, exec.Verity)
		}
	}
	return unique(digests)
}

func (w *writer) host(units []string) {
	w.table("[host]", "Processes outside any container, by systemd unit: the agent's word alone.")
	if len(units) > 0 {
		w.asSeen("units", units)
		return
	}
	w.comment("This one is of no unit. any = true allows any process of the host; a name allows its unit's.")
	w.value("units", []string{"name-it.service"})
	w.note("the process of the host is of no unit: the policy refuses it")
}

// maxClasses is how many classes of power a comment names.
const maxClasses = 100

func (w *writer) power() {
	var classes []string
	for i := range w.seen {
		for _, body := range w.seen[i].bodies(logs.OpPower) {
			var power logs.PowerBody
			if json.Unmarshal(body, &power) == nil {
				classes = append(classes, power.Classes...)
			}
		}
	}
	w.table("[power]",
		"Classes of power that some container may have: each could act as root of the",
		"guest, and so on the agent itself.")
	if classes = unique(classes); len(classes) > 0 {
		var words []string
		for _, c := range classes[:min(len(classes), maxClasses)] {
			words = append(words, fmt.Sprintf("%q", c))
		}
		said := strings.Join(words, ", ")
		w.comment("Seen, and not allowed: allow = [" + said + "]")
		w.note("containers have power (%s), which the policy doesn't allow: it must name each class that may be, or the TD must boot again without them", said)
	}
	w.value("allow", []string{})
}

func (w *writer) events() {
	w.table("[[forbidden]]", "Starts and events that nobody measured.")
	w.value("operation", logs.OpMissed)
	w.b.WriteString("match.what = { any = [\"launch\", \"event\"] }\n")
	w.b.WriteString(`
# Events that must be in the log, public or of this container:
#[[required]]
#operation = "extend"
#match = { domain = "app", operation = "load" }
`)
	for i := range w.seen {
		if len(w.seen[i].bodies(logs.OpMissed)) > 0 {
			w.note("something was not measured, which the policy forbids: see the missed events")
			return
		}
	}
}

// references writes what the launch digests stand for.
func (w *writer) references() {
	var done []rpc.Digest
	for i := range w.seen {
		s := &w.seen[i]
		c := s.Claims.Container
		if c == nil || slices.Contains(done, c.LaunchDigest) {
			continue
		}
		done = append(done, c.LaunchDigest)
		launch, image := s.bodies(logs.OpLaunch), s.bodies(logs.OpImage)
		if len(launch) > 0 && len(image) > 0 {
			w.reference(launch[0], image[len(image)-1])
		}
	}
}

func (w *writer) reference(launch, image jsontext.Value) {
	m, err := launches.Read(launch)
	if err != nil || m.Earlier {
		return
	}
	i, err := launches.ReadImage(image)
	if err != nil {
		return
	}
	i.Layers = nil // not in the digest
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
	w.table("[[reference]]",
		"What the launch digest stands for (cima-evidence(7), LAUNCH). It allows nothing by",
		"itself: where evidence has another launch, the facts that differ are shown.")
	w.text("launch", facts)
	w.text("image", i)
}

// text writes a value as indented JSON, which can be read and compared.
func (w *writer) text(key string, v any) {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil || bytes.Contains(text, []byte("'''")) || bytes.ContainsRune(text, 0x7f) {
		w.value(key, tomlValue(v)) // no literal string of TOML can have these
		return
	}
	fmt.Fprintf(&w.b, "%s = '''\n%s'''\n", key, text)
}
