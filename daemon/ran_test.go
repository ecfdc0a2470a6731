package daemon

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
)

// ran is what the daemon logged of a container.
type ran struct {
	id       string
	launch   launch.Launch
	digest   [48]byte // of the launch; the image's are its configuration's
	defaults [48]byte
	classes  []string // sorted, those of all its power events
}

// run has an engine run a line: "docker run FLAGS IMAGE COMMAND" or the same of podman.
// The program gets files as its descriptors from 3 on. The error is the engine's;
// without one, the container ran to its end.
func (f *fixture) run(t *testing.T, line string, files ...*os.File) (ran, error) {
	t.Helper()
	split, err := exec.Command("sh", "-c", `printf '%s\0' `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(strings.TrimSuffix(string(split), "\x00"), "\x00")
	at := slices.Index(words, "run")
	if at < 1 {
		t.Fatalf("no line of docker's or podman's: %s", line)
	}
	cid := filepath.Join(t.TempDir(), "cid")
	flags := []string{"--cidfile", cid}
	if !strings.Contains(line, " --network ") {
		flags = append(flags, "--network", "none")
	}
	e := &engine.Engine{Name: words[0], Client: words[:1]}
	c := e.Command(context.Background(), slices.Insert(words[1:], at, flags...)...)
	c.ExtraFiles = files
	var out []byte
	if strings.Contains(line, "passthrough") {
		c.Stderr = files[0]
		err = c.Run()
	} else {
		out, err = c.CombinedOutput()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", line, err, out)
	}
	id, missing := os.ReadFile(cid)
	if missing != nil {
		t.Fatalf("no container was made: %v", err)
	}
	t.Cleanup(func() { remove(e.Name, string(id)) })
	return f.logged(t, string(id)), err
}

// remove ends and removes a container, if it is there.
func remove(engine, id string) {
	args := []string{"rm", "-f", "-v", id}
	if engine == "podman" {
		args = append(args, "-t", "0")
	}
	exec.Command(engine, args...).Run()
}

// logged is what is logged of a container, by its name in the log.
func (f *fixture) logged(t *testing.T, name string) ran {
	t.Helper()
	r := ran{id: name, classes: f.classes(name)}
	launches := 0
	for _, e := range f.events() {
		if e.Container != name || e.Operation != logs.OpLaunch {
			continue
		}
		launches++
		err := json.Unmarshal(e.Body(), &r.launch)
		if err == nil {
			r.digest, err = launch.Digest(r.launch, launch.Image{Absent: "not asked for"})
		}
		if err == nil {
			r.defaults, err = launch.DefaultsDigest(r.launch)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, e.Body())
		}
	}
	if launches != 1 {
		t.Fatalf("%d launches of %s are logged, must be one", launches, name)
	}
	return r
}

// classes are what the daemon's log names of a container's power.
func (f *fixture) classes(name string) (all []string) {
	for _, list := range f.powers(name) {
		all = append(all, strings.Fields(strings.Trim(list, `"[]`))...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// wantClasses compares classes with a list of them. "…" at the end stands for more,
// which differ from machine to machine.
func (r ran) wantClasses(t *testing.T, want string) {
	t.Helper()
	wanted, more := strings.CutSuffix(want, "…")
	list := strings.Fields(wanted)
	missing := slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(r.classes, c) })
	if len(missing) > 0 || !more && len(r.classes) != len(list) {
		t.Errorf("announced: %q, must be %q", r.classes, want)
	}
}

// difference says in what two launches differ; "" for equal ones.
func (r ran) difference(other ran) string {
	switch {
	case r.digest != other.digest:
		return "what was asked for: " + difference(r.launch.Asked, other.launch.Asked)
	case r.defaults != other.defaults:
		return "the engine's defaults: " + difference(r.launch.Defaults, other.launch.Defaults)
	}
	return ""
}

func difference(a, b any) string { return cmp.Diff(text(a), text(b)) }

// text is JSON that a person can read.
func text(v any) string {
	form, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent(" "))
	return string(form) + fmt.Sprint(err)
}
