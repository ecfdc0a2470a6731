package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// lineEngines name the files of daemon/launch/predict/testdata that a run with VM_LINES=1
// puts beside this program.
var lineEngines = []string{"docker", "podman"}

// changes make the images that the lines name out of the test image.
var changes = map[string][]string{
	"predict:1": {"ENV IMG=1", `CMD ["/bin/busybox","sleep","1000"]`},
	"predict:2": {"ENV IMG=1", "ENV PATH=/bin:/usr/bin", `ENTRYPOINT ["/bin/sleep"]`, `CMD ["1000"]`, "USER app", "WORKDIR /home/app", "VOLUME /vol", "LABEL a=b"},
}

// everyLine starts each line of the lists twice, docker's and podman's in turn. Both
// digests must be equal each time; the classes of power are reported, and at least 70 lines
// must have none. Each line is printed as it ends: all of them take an hour.
func everyLine(ctx context.Context, w *world) error {
	for name, text := range map[string]string{"/run/env": "# a comment\nF1=one\nF2=two words\n", "/run/seccomp.json": `{"defaultAction":"SCMP_ACT_ALLOW"}`} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/srv/data", 0o755); err != nil {
		return err
	}
	var lists [][]string
	for _, name := range lineEngines {
		if err := lineImages(ctx, name); err != nil {
			return err
		}
		list, err := readLines(name + ".lines")
		if err != nil {
			return err
		}
		lists = append(lists, list)
	}
	var failed []error
	ran, harmless := 0, 0
	for n := range max(len(lists[0]), len(lists[1])) {
		for i, list := range lists {
			if n >= len(list) {
				continue
			}
			power, err := twice(ctx, lineEngines[i], list[n])
			switch {
			case errors.Is(err, errNotRun):
				fmt.Printf("     not run: %s: %v\n", list[n], err)
				continue
			case err != nil:
				failed = append(failed, fmt.Errorf("%s: %w", list[n], err))
			case power == "":
				harmless++
			}
			ran++
			fmt.Printf("     %d, %d failed: %s %s\n", ran, len(failed), list[n], power)
		}
	}
	w.note("%d lines ran twice: %d have no class", ran, harmless)
	if harmless < 70 {
		failed = append(failed, fmt.Errorf("%d lines have no class, at least 70 must have none", harmless))
	}
	return errors.Join(failed...)
}

// readLines reads the lines that an engine runs. Directories of the host are data here.
func readLines(file string) (lines []string, err error) {
	text, err := os.ReadFile(file)
	for l := range strings.Lines(string(text)) {
		mark, line, ok := strings.Cut(strings.TrimSpace(l), " ")
		if ok && mark[0] != '#' {
			lines = append(lines, strings.ReplaceAll(line, "/run/data", "/srv/data"))
		}
	}
	return lines, err
}

// twice runs a line twice, and returns the power that was announced.
func twice(ctx context.Context, name, line string) (power string, err error) {
	first, err := runLine(ctx, name, line)
	if err != nil {
		return "", err
	}
	second, err := runLine(ctx, name, line)
	if err == nil && first.asked != second.asked {
		err = fmt.Errorf("two launches:\n%+v\n%+v", first.asked, second.asked)
	}
	return first.power + second.power, err
}

// lineImages makes the images that the lines name, and the container "other".
func lineImages(ctx context.Context, name string) error {
	path, err := imageTar("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n",
		"etc/group", "root:x:0:\nbin:x:1:root\nwheel:x:10:root,app\napp:x:1001:\n")
	if err != nil {
		return err
	}
	defer os.Remove(path)
	for _, image := range slices.Sorted(maps.Keys(changes)) {
		args := []string{name, "import"}
		for _, c := range changes[image] {
			args = append(args, "--change", c)
		}
		if _, err := command(ctx, append(args, path, image)...); err != nil {
			return err
		}
	}
	_, err = command(ctx, name, "run", "-d", "--network", "none", "--ipc", "shareable", "--name", "other", "predict:1")
	return err
}

var errNotRun = errors.New("the engine doesn't run this line")

// lineRun is what is logged of one run of a line.
type lineRun struct {
	asked
	power string
}

func runLine(ctx context.Context, name, line string) (lineRun, error) {
	out, err := finish(exec.CommandContext(ctx, "sh", "-c", line))
	if id := strings.TrimSpace(out); id != "" {
		defer finish(exec.CommandContext(context.WithoutCancel(ctx), name, removal(name, id)...))
	}
	if err != nil {
		finish(exec.CommandContext(ctx, name, removal(name, "n1")...)) // the one line with a name
		return lineRun{}, fmt.Errorf("%w: %w", errNotRun, err)
	}
	id := strings.TrimSpace(out)
	power, err := announced(ctx, id)
	if err != nil {
		return lineRun{}, err
	}
	a, err := launchOf(id)
	return lineRun{asked: a, power: power}, err
}
