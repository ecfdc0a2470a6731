package policy

import (
	"cmp"
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// Caller is the container that asked, as the log shows it.
type Caller struct {
	LaunchDigest   hw.Digest
	DefaultsDigest hw.Digest // zero where the launch has none
	Launch         jsontext.Value
	Image          jsontext.Value
	Claims         jsontext.Value
	Places         match.Places // where its mounts lead

	Execs    []Exec // what it executed, where that has a digest
	Unproved bool   // executions were not measured, or not all
}

// Exec are the digests of a program; one can be missing.
type Exec struct{ SHA384, Verity string }

// Container is an alternative of a policy that fits.
type Container struct {
	Name string   `json:"name"`
	Gaps []string `json:"-"` // codes of what it leaves open

	rule   *container
	wishes codes.Wishes
}

// Containers is what a policy says of a container.
type Containers struct {
	Known   *Container // nil where none fits
	Nearest string     // where none fits: the one that differs least
	Differ  string     // and the first fact
	Others  int        // how many differ besides

	Facts         wanted.Findings // of its match; first those that differ
	LaunchUnknown bool            // it names launch digests, and not this one; or none is nearest
}

// Words say why none fits.
func (c Containers) Words() string {
	switch {
	case c.Nearest == "":
		return c.Differ
	case c.Others > 0:
		return fmt.Sprintf("nearest is container %q: %s (%d more differ)", c.Nearest, c.Differ, c.Others)
	}
	return fmt.Sprintf("nearest is container %q: %s", c.Nearest, c.Differ)
}

// JudgeContainer holds a container against [[container]], the first that fits counts.
// boots are the names of the boots that fit. It costs as much as launch and policy are
// long: each leaf of a match is judged once, each digest looked up once. It fails where
// that is too much work.
func (p *Policy) JudgeContainer(c Caller, boots []Boot, at time.Time) (Containers, error) {
	j := &callerJudge{p: p, c: c, boots: boots, at: at}
	if err := j.read(); err != nil {
		return Containers{}, err
	}
	candidates := j.candidates()
	if len(candidates) == 0 {
		return Containers{LaunchUnknown: true, Differ: fmt.Sprintf("no [[container]] has the image %s or the launch digest %.16s…", j.imageWords(), c.LaunchDigest)}, nil
	}
	covered := j.covered()
	found := Containers{Others: len(candidates) - 1}
	least := 1 << 30
	var nearest func() string
	var rule *container
	for _, n := range candidates {
		missing, first := j.judge(p.containers[n], covered[n])
		switch {
		case j.work.TooMuch():
			return Containers{}, errTooMuch
		case missing == 0:
			return Containers{Known: j.known(p.containers[n])}, nil
		case missing < least:
			nearest, rule, least = first, p.containers[n], missing
		}
	}
	found.Nearest, found.Differ = rule.name, nearest()
	found.Facts = j.document.Facts(rule.match)
	found.LaunchUnknown = len(rule.launch) > 0 && !slices.Contains(rule.launch, j.launch)
	return found, nil
}

type callerJudge struct {
	p        *Policy
	c        Caller
	boots    []Boot
	at       time.Time
	document *match.Document
	work     *match.Meter
	root     map[string]any
	distinct []Exec

	launch, defaults, source, config, manifest string
	owner                                      int64 // of the cgroup; -1 where it is not known
}

// read makes one document of launch, image and claims.
func (j *callerJudge) read() error {
	root, err := match.ReadObject(j.c.Launch)
	if err != nil {
		return err
	}
	match.Launch(root, &j.c.Places)
	if root["image"], err = match.ReadObject(j.c.Image); err != nil {
		return err
	}
	if root["claims"], err = match.ReadObject(j.c.Claims); err != nil {
		return err
	}
	j.distinct = distinct(j.c.Execs)
	j.launch, j.defaults, j.owner = j.c.LaunchDigest.String(), ValueWord(j.c.DefaultsDigest), -1
	j.source, _ = root["source"].(string)
	if owner, ok := root["cgroup_owner"].(float64); ok {
		j.owner = int64(owner)
	}
	bytes := j.p.bytes + len(j.c.Launch) + len(j.c.Image) + len(j.c.Claims) + 192*len(j.c.Execs)
	j.root, j.work = root, match.NewMeter(bytes)
	j.document = match.NewDocument(root, j.work)
	j.config, j.manifest = j.imageText("digest"), j.imageText("manifest")
	return nil
}

func (j *callerJudge) imageText(name string) string {
	text, _ := j.document.Get("image", name).(string)
	return text
}

func (j *callerJudge) imageWords() string {
	return tables.Clip(cmp.Or(j.config, j.manifest, "not known"))
}

// candidates are the alternatives that name the image or the launch, in the policy's
// order. One that names both needs both.
func (j *callerJudge) candidates() []int {
	x := j.p.index
	numbers := slices.Concat(x.any, x.launch[j.c.LaunchDigest.String()], x.image[j.config], x.image[j.manifest])
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// distinct are the programs, each once.
func distinct(execs []Exec) (list []Exec) {
	seen := make(map[Exec]bool, len(execs))
	for _, e := range execs {
		if !seen[e] {
			seen[e] = true
			list = append(list, e)
		}
	}
	return list
}

// covered counts, for each alternative, the programs of those that ran that it lists, by
// one of their digests.
func (j *callerJudge) covered() map[int]int {
	counts, last := make(map[int]int), make(map[int]int)
	for i, e := range j.distinct {
		for _, d := range []string{e.SHA384, e.Verity} {
			for _, n := range j.p.index.execs[d] {
				if j.work.Add(1); last[n] != i+1 {
					last[n] = i + 1
					counts[n]++
				}
			}
		}
	}
	return counts
}

// judge counts what differs. first describes the first, for the nearest alternative alone.
func (j *callerJudge) judge(c *container, covered int) (missing int, first func() string) {
	wrong := func(differs bool, describe func() string) {
		if differs {
			if missing++; missing == 1 {
				first = describe
			}
		}
	}
	words := func(format string, got any, want string) func() string {
		return func() string { return fmt.Sprintf(format+" is %s, want %s", got, want) }
	}
	j.work.Add(1 + len(c.launch) + len(c.defaults) + len(c.boot))
	wrong(c.out(j.at) != "", func() string { return fmt.Sprintf("container %q %s", c.name, c.out(j.at)) })
	wrong(len(c.image) > 0 && j.imageDiffers(c) != "", func() string { return j.imageDiffers(c) })
	wrong(len(c.launch) > 0 && !slices.Contains(c.launch, j.launch), words("launch digest", j.launch, tables.Or(c.launch)))
	wrong(len(c.defaults) > 0 && !slices.Contains(c.defaults, j.defaults), words("defaults digest", j.defaults, tables.Or(c.defaults)))
	wrong(!slices.Contains(c.source, j.source), words("source", j.source, tables.Or(c.source)))
	wrong(!slices.Contains(c.owner, j.owner), words("cgroup owner", fmt.Sprint(j.root["cgroup_owner"]), tables.Or(c.owner)))
	wrong(len(c.boot) > 0 && j.boot(c) == nil, func() string { return "the boot is none of " + tables.Or(c.boot) })
	if n, leaf := j.document.Against(c.match); n > 0 {
		wrong(true, func() string { return "match." + j.document.Differs(leaf) })
		missing += n - 1
	}
	if c.execs != nil {
		wrong(covered < len(j.distinct), func() string { return "it executed " + j.stranger(c) })
	}
	return missing, first
}

// imageDiffers says why none of the alternative's images, valid now, is the container's.
func (j *callerJudge) imageDiffers(c *container) string {
	why := ""
	for _, name := range c.image {
		i := j.p.images[name]
		j.work.Add(len(i.digests))
		if !slices.Contains(i.digests, j.config) && !slices.Contains(i.digests, j.manifest) {
			continue
		}
		if out := i.out(j.at); out == "" {
			return ""
		} else {
			why = "image " + name + " " + out
		}
	}
	if why == "" {
		why = fmt.Sprintf("image is %s, want %s", j.imageWords(), tables.Or(c.image))
	}
	return why
}

// stranger is the first program that the alternative doesn't list.
func (j *callerJudge) stranger(c *container) string {
	listed := make(map[string]bool, len(c.execs))
	for _, d := range c.execs {
		listed[d] = true
	}
	for _, e := range j.distinct {
		if !listed[e.SHA384] && !listed[e.Verity] {
			return fmt.Sprintf("%.24s…, want %s", cmp.Or(e.SHA384, e.Verity), tables.Or(c.execs))
		}
	}
	return ""
}

// boot is the first boot that fits and that the alternative allows.
func (j *callerJudge) boot(c *container) *Boot {
	for i := range j.boots {
		if len(c.boot) == 0 || slices.Contains(c.boot, j.boots[i].Name) {
			return &j.boots[i]
		}
	}
	return nil
}

// known makes the result of an alternative that fits.
func (j *callerJudge) known(c *container) *Container {
	found := &Container{Name: c.name, rule: c, wishes: codes.Wishes{c.Wish}}
	add := func(code string, there bool) {
		if there {
			found.Gaps = append(found.Gaps, code)
		}
	}
	add(codes.AnyCaller, c.any)
	add(codes.Owner, j.root["cgroup_owner"] != 0.0)
	add(codes.Image, j.imageText("absent") != "")
	add(codes.Defaults, len(c.defaults) == 0 && !c.match.On("defaults"))
	add(codes.Mounts, j.c.Places.Any() && !c.match.On("asked", "mounts"))
	add(codes.Executions, c.execs == nil || j.c.Unproved)
	if c.execs != nil {
		found.wishes = append(found.wishes, codes.Demand(codes.Executions))
	}
	add(codes.Volumes, true)
	return found
}

// BootOf is the boot with which the container is judged: the first that fits and that its
// alternative allows.
func BootOf(c *Container, boots []Boot) *Boot {
	for i := range boots {
		if c == nil || len(c.rule.boot) == 0 || slices.Contains(c.rule.boot, boots[i].Name) {
			return &boots[i]
		}
	}
	return nil
}

// JudgeHost holds a process outside any container against [host].
func (p *Policy) JudgeHost(unit string, claims jsontext.Value) (found wanted.Findings, gaps []string, err error) {
	root, err := match.ReadObject(claims)
	if err != nil {
		return nil, nil, err
	}
	h := p.host
	got, want := "of no unit", "a container: the policy's [host] names no unit"
	if unit != "" {
		got = "of unit " + unit
	}
	if len(h.units) > 0 {
		want = tables.Or(h.units)
	}
	found.Want(h.any || unit != "" && slices.Contains(h.units, unit), "host process", want, got)
	d := match.NewDocument(map[string]any{"claims": root}, match.NewMeter(p.bytes+len(claims)))
	if missing, first := d.Against(h.match); missing > 0 {
		found.Want(false, "host process", "as match says", d.Differs(first))
	}
	if gaps = []string{codes.HostProcess}; h.any {
		gaps = append(gaps, codes.AnyCaller)
	}
	return found, gaps, nil
}
