package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

func docker(ctx context.Context, w *world) error     { return proved(ctx, w, dockerd) }
func dockerCrun(ctx context.Context, w *world) error { return proved(ctx, w, dockercru) }
func podman(ctx context.Context, w *world) error {
	runtime, err := command(ctx, "podman", "info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.CgroupsVersion}}")
	if err != nil {
		return err
	}
	if strings.TrimSpace(runtime) != "crun v2" {
		return fmt.Errorf("podman must run crun on cgroup v2, not %q", runtime)
	}
	return proved(ctx, w, rootful)
}

func proved(ctx context.Context, w *world, e engine) error {
	g, err := e.prove(ctx, w)
	if err != nil {
		return err
	}
	g.note(w)
	return nil
}

func rootless(ctx context.Context, w *world) error {
	g, err := alices.prove(ctx, w)
	if err != nil {
		return err
	}
	g.note(w)
	for _, event := range ownEvents(g) {
		if event.Operation != logs.OpLaunch {
			continue
		}
		var l struct {
			Source      string `json:"source"`
			CgroupOwner uint32 `json:"cgroup_owner"`
		}
		if err := json.Unmarshal(event.Body(), &l); err != nil {
			return err
		}
		if l.Source != "user" || l.CgroupOwner != 1000 {
			return fmt.Errorf("the launch has source %q, cgroup owner %d", l.Source, l.CgroupOwner)
		}
		return nil
	}
	return errors.New("no launch event in the log")
}

// ownEvents are the events that the evidence shows.
func ownEvents(g *given) (out []logs.Event) {
	for _, entry := range g.evidence.RuntimeLog {
		if event, err := logs.ParseEvent(entry.Event); err == nil {
			out = append(out, event)
		}
	}
	return out
}

// sameLaunch starts the same command lines again.
func sameLaunch(ctx context.Context, w *world) error {
	for _, e := range []engine{dockerd, rootful} {
		if len(w.launches[e.name]) < 2 {
			if _, err := e.prove(ctx, w); err != nil {
				return err
			}
		}
		digests := w.launches[e.name]
		for _, d := range digests {
			if d != digests[0] || len(digests) < 2 {
				return fmt.Errorf("%s: launch digests %v", e.name, digests)
			}
		}
	}
	return nil
}

// plain checks that a container with CIMA's directory mounted read-only has no
// power event, and that processes that are executed in it later are identified
// as the container.
func plain(ctx context.Context, w *world) error {
	before, err := readRuntimeLog()
	if err != nil {
		return err
	}
	out, err := finish(dockerd.cmd(ctx, dockerd.begin([]string{"-d"}, "/bin/busybox", "sleep", "300")...))
	id := strings.TrimSpace(out)
	if err != nil {
		return err
	}
	defer finish(dockerd.cmd(ctx, "rm", "-f", id))
	bundle, err := os.ReadFile("/run/containerd/io.containerd.runtime.v2.task/moby/" + id + "/config.json")
	if err != nil {
		return err
	}
	w.keep("docker-config.json", bundle)
	who, err := finish(dockerd.cmd(ctx, "exec", id, "/cimactl", "whoami", "--json"))
	if err != nil {
		return err
	}
	if !strings.Contains(who, `"`+id+`"`) {
		return fmt.Errorf("docker exec: whoami prints %s", who)
	}
	after, err := readRuntimeLog()
	if err != nil {
		return err
	}
	for _, event := range after[len(before):] {
		if event.Operation == logs.OpPower {
			return fmt.Errorf("the container must have no power event: %s", event.Body())
		}
	}
	return nil
}

// privileged starts a privileged container. The log that another container sees
// must have its power event, without its id.
func privileged(ctx context.Context, w *world) error {
	powerful, err := dockerd.prove(ctx, w, "--privileged")
	if err != nil {
		return err
	}
	other, err := rootful.prove(ctx, w)
	if err != nil {
		return err
	}
	for _, event := range ownEvents(other) {
		if event.Operation != logs.OpPower {
			continue
		}
		if strings.Contains(string(event.Bytes()), powerful.id) {
			return errors.New("the power event must not name its container to others")
		}
		var power logs.PowerBody
		if err := json.Unmarshal(event.Body(), &power); err != nil {
			return err
		}
		if slices.Contains(power.Classes, "privileged") {
			w.note("%d classes", len(power.Classes))
			return nil
		}
	}
	return errors.New("the other container must see a power event with the class privileged")
}
