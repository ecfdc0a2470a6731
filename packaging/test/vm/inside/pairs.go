package main

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cima-project/cima/logs"
)

// usualLines are flags that many containers have. Most are run by each engine, so that
// they are fifteen lines with what follows each engine's name.
var usualLines = []struct {
	flags   string
	engines []engine
}{
	{"", []engine{dockerd, rootful}},
	{"--read-only --tmpfs /t:size=64m", []engine{dockerd, rootful}},
	{"-u 1000:1000 --cap-drop ALL --security-opt no-new-privileges", []engine{dockerd, rootful}},
	{"-v /srv/vm-pairs:/data -v vm-named:/vol -v /anonymous", []engine{dockerd, rootful}},
	{"-v /etc/os-release:/o:ro -v /etc/ssl/certs:/c:ro", []engine{dockerd, rootful}},
	{"-e A=1 -e PATH=/x:/bin --hostname h", []engine{dockerd, rootful}},
	{"--sysctl net.core.somaxconn=1024 -m 64m --pids-limit 100", []engine{dockerd, rootful}},
	{"-w /work --group-add 44 --cap-drop MKNOD", []engine{dockercru}},
}

// pairs starts each line twice: what was asked for, what the engine added, and so both
// digests, are equal, docker and podman were asked for the same, and no class of power is
// announced.
func pairs(ctx context.Context, w *world) error {
	if err := os.MkdirAll("/srv/vm-pairs", 0o755); err != nil {
		return err
	}
	n := 0
	var failed []error
	for _, line := range usualLines {
		same := ""
		for _, e := range line.engines {
			asks, err := e.pair(ctx, line.flags)
			switch {
			case err != nil:
				failed = append(failed, err)
				continue
			case same != "" && asks != same:
				has, _, _ := e.start(ctx, "", strings.Fields(line.flags), "/bin/busybox", "env")
				failed = append(failed, fmt.Errorf("%s: docker and podman are asked for:\n%s\n%s\nthere the variables are %q", line.flags, same, asks, has))
			}
			same = asks
			n++
		}
	}
	w.note("%d lines", n)
	return errors.Join(failed...)
}

// mapped starts podman's containers with a user namespace: their runtime gets another path of
// the root file system than the host has (podman 5), and the image is known all the same.
func mapped(ctx context.Context, w *world) error {
	const flags = "--uidmap 0:100000:1000 --gidmap 0:100000:1000"
	var found [2]asked
	for i := range found {
		_, id, err := rootful.start(ctx, "", strings.Fields(flags), "/cimactl", "--version")
		if err == nil {
			found[i], err = launchOf(id)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flags, err)
		}
	}
	if found[0] != found[1] {
		return fmt.Errorf("%s: two launches:\n%+v\n%+v", flags, found[0], found[1])
	}
	return nil
}

// pair starts a line twice and returns what was asked for, both times.
func (e engine) pair(ctx context.Context, flags string) (asks string, err error) {
	first, err := e.launched(ctx, flags)
	if err != nil {
		return "", err
	}
	second, err := e.launched(ctx, flags)
	if err == nil && first != second {
		err = fmt.Errorf("%s %s: two launches:\n%+v\n%+v", e.name, flags, first, second)
	}
	return first.asked, err
}

// asked is what a container's launch event says, but for quantities.
type asked struct{ asked, defaults, config string }

// launched runs a line and reads what was logged of it.
func (e engine) launched(ctx context.Context, flags string) (asked, error) {
	_, id, err := e.start(ctx, "", strings.Fields(flags), "/cimactl", "--version")
	if err != nil {
		return asked{}, fmt.Errorf("%s %s: %w", e.name, flags, err)
	}
	power, err := announced(ctx, id)
	if err == nil && power != "" {
		err = fmt.Errorf("%s %s: power is announced: %s", e.name, flags, power)
	}
	if err != nil {
		return asked{}, err
	}
	return launchOf(id)
}

// announced is what the daemon's log says of a container's power. Events name no
// container, and equal ones are logged once.
func announced(ctx context.Context, id string) (string, error) {
	journal, err := command(ctx, "journalctl", "-u", "cimad.service", "-o", "cat", "--no-pager")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(journal) {
		if _, power, ok := strings.Cut(line, "power="); ok && strings.Contains(line, id) {
			return strings.TrimSpace(power), nil
		}
	}
	return "", nil
}

// launchOf is a container's launch as it is logged.
func launchOf(id string) (asked, error) {
	events, err := readRuntimeLog()
	if err != nil {
		return asked{}, err
	}
	for _, event := range events {
		if event.Container != id || event.Operation != logs.OpLaunch {
			continue
		}
		var l struct {
			Asked       jsontext.Value `json:"asked"`
			Defaults    jsontext.Value `json:"defaults"`
			ImageConfig string         `json:"image_config"`
		}
		err := json.Unmarshal(event.Body(), &l)
		if err == nil && (l.ImageConfig == "" || len(l.Asked) == 0) {
			err = fmt.Errorf("the launch has no image's configuration, or nothing that was asked for: %s", event.Body())
		}
		return asked{string(l.Asked), string(l.Defaults), l.ImageConfig}, err
	}
	return asked{}, fmt.Errorf("no launch of %s is logged", id)
}
