package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		return fmt.Errorf("podman runs %q, not crun on cgroup v2", runtime)
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
			return fmt.Errorf("the launch says source %q, cgroup owner %d", l.Source, l.CgroupOwner)
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

func sameLaunch(ctx context.Context, w *world) error {
	for _, e := range []engine{dockerd, rootful} {
		var digests []string
		for range 2 {
			out, _, err := e.start(ctx, nil, "/cimactl", "whoami", "--json")
			if err != nil {
				return err
			}
			var who struct {
				Container struct {
					LaunchDigest string `json:"launch_digest"`
				} `json:"container"`
			}
			if err := json.Unmarshal([]byte(out), &who); err != nil {
				return err
			}
			digests = append(digests, who.Container.LaunchDigest)
		}
		if digests[0] == "" || digests[0] != digests[1] {
			return fmt.Errorf("%s: launch digests %q", e.name, digests)
		}
	}
	return nil
}

// privileged starts a privileged container; what another one is shown must
// say so, and must not say which it was.
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
			return errors.New("the power event names its container to others")
		}
		var power struct {
			Classes []string `json:"classes"`
		}
		if err := json.Unmarshal(event.Body(), &power); err != nil {
			return err
		}
		w.note("%s", strings.Join(power.Classes, " "))
		if !slices.Contains(power.Classes, "privileged") {
			return fmt.Errorf("the power event has classes %q", power.Classes)
		}
		return nil
	}
	return errors.New("the other container is shown no power event")
}
