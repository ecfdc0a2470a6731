package policy

import (
	"slices"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs"
)

// image is [image.NAME].
type image struct {
	name string
	validity
	digests []string // of the config, or of the manifest
}

// container is [[container]]: one way in which a container may be what is wanted.
type container struct {
	name string
	validity
	codes.Wish
	any      bool     // any container
	image    []string // names
	launch   []string // launch digests
	defaults []string // defaults digests
	boot     []string // names; none: any boot that fits
	source   []string
	owner    []int64  // of the cgroup
	execs    []string // the programs that it may execute; nil: any
	match    match.Match
}

// host is [host]: processes outside any container.
type host struct {
	any   bool
	units []string
	match match.Match
}

// launchNames are the members of a launch that a match can name (cima-evidence(7),
// LAUNCH), with those of image and claims.
var launchNames = func() match.Names {
	n := match.NamesOf(launches.Members...)
	n["entrypoint"], n["asked"] = match.NamesOf("path", "sha384"), askedNames()
	n["pod"] = match.NamesOf(launches.PodMembers...)
	n["defaults"], n["image"], n["claims"] = match.NamesOf(launches.DefaultsMembers...), match.NamesOf(launches.ImageMembers...), claimNames
	return n
}()

func askedNames() match.Names {
	n := match.NamesOf(launches.AskedMembers...)
	n["user"] = match.NamesOf("uid", "gid", "additional_gids", "umask")
	n["capabilities"] = match.NamesOf("added", "dropped", "ambient")
	return n
}

// claimNames are the members of claims (cima-evidence(7), CLAIMS). Nonce and user data are
// the verifier's to compare.
var claimNames = match.Names{
	"agent": nil, "boot_log": nil, "os_logs": nil, "log": match.NamesOf("count", "anchor", "view"),
	"container": match.Names{
		"id": nil, "runtime": nil, "image": nil, "image_digest": nil, "launch_digest": nil, "defaults_digest": nil, "register": nil,
		"assurance": match.NamesOf("start", "pidfd", "cgroup_owner", "metadata"), "pod": match.NamesOf(launches.PodMembers...),
	},
	"host": match.NamesOf("unit", "uid"),
}

func readImage(t *tables.Table, name string) *image {
	i := &image{name: name, validity: readValidity(t), digests: t.Texts("digests", isImageDigest)}
	if len(i.digests) == 0 {
		t.Bad("digests", "there: the image's config or manifest")
	}
	t.Done()
	return i
}

func readContainer(t *tables.Table, leaves match.Leaves) *container {
	c := &container{
		name: t.Text("name"), validity: readValidity(t), Wish: codes.Read(t), any: t.Flag("any"), image: t.Texts("image", tables.AnyText),
		launch: t.Texts("launch", digest384), defaults: t.Texts("defaults", digest384), boot: t.Texts("boot", tables.AnyText),
		source: t.Texts("source", tables.OneOf("source", []string{logs.SourceBundle, logs.SourceEngine, logs.SourceUser, logs.SourceNone})),
		owner:  numbers(t, "cgroup_owner"), execs: t.Texts("execs", isProgram), match: match.Read(t, launchNames, leaves),
	}
	if c.name == "" {
		t.Bad("name", "there")
	}
	if c.source == nil {
		c.source = []string{logs.SourceBundle, logs.SourceEngine}
	}
	if c.owner == nil {
		c.owner = []int64{0}
	}
	for _, key := range []string{"image", "launch", "defaults", "boot"} {
		if list, there := t.List(key); there && len(list) == 0 {
			t.Bad(key, "left out, or name something: nothing is one of an empty list")
		}
	}
	switch bound := len(c.image)+len(c.launch) > 0; {
	case !bound && !c.any:
		t.Fault(t.Path, "%s must have image or launch, or any = true: less says nothing of what runs", t.Title)
	case bound && c.any:
		t.Bad("any", "left out where image or launch is there")
	}
	t.Done()
	return c
}

func numbers(t *tables.Table, name string) (found []int64) {
	elements, there := t.List(name)
	if !there {
		return nil
	}
	found = make([]int64, 0, len(elements))
	for _, v := range elements {
		n, ok := v.(int64)
		if !ok || n < 0 {
			t.Bad(name, "a list of numbers from 0 on")
		}
		found = append(found, n)
	}
	return found
}

func readHost(t *tables.Table, there bool, leaves match.Leaves) host {
	h := host{any: t.Flag("any"), units: t.Texts("units", tables.AnyText), match: match.Read(t, match.Names{"claims": claimNames}, leaves)}
	if there && !h.any && len(h.units) == 0 {
		t.Fault(t.Path, "%s must have units, or any = true", t.Title)
	}
	return h
}

// index finds the alternatives for a digest.
type index struct {
	launch, image, execs map[string][]int // numbers of containers
	any                  []int
}

func (p *Policy) makeIndex() *index {
	x := &index{make(map[string][]int), make(map[string][]int), make(map[string][]int), nil}
	for n, c := range p.containers {
		for _, d := range c.launch {
			x.launch[d] = append(x.launch[d], n)
		}
		for _, name := range c.image {
			for _, d := range p.images[name].digests {
				x.image[d] = append(x.image[d], n)
			}
		}
		for _, d := range unique(c.execs) {
			x.execs[d] = append(x.execs[d], n)
		}
		if c.any {
			x.any = append(x.any, n)
		}
	}
	return x
}

func unique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
