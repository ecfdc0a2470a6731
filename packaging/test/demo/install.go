package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/cima-project/cima/packaging/test/engine"
)

// installing are the commands that bring podman onto this machine, by the package
// manager that it has; nil if it has none of them.
func installing() [][]string {
	packages := []string{"podman"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		packages = append(packages, "runc") // crun, which comes with podman, refuses cgroup v1
	}
	for _, way := range [][][]string{
		{{"apt-get", "update"}, {"apt-get", "install", "-y"}},
		{{"dnf", "install", "-y"}},
		{{"zypper", "--non-interactive", "install"}},
		{{"pacman", "-Sy", "--noconfirm"}},
		{{"apk", "add"}},
	} {
		if _, err := exec.LookPath(way[0][0]); err == nil {
			last := len(way) - 1
			way[last] = append(way[last], packages...)
			return way
		}
	}
	return nil
}

func inWords(commands [][]string) string {
	lines := make([]string, len(commands))
	for i, c := range commands {
		lines[i] = strings.Join(c, " ")
	}
	return strings.Join(lines, " && ")
}

// bringEngine installs podman if that is wanted, else it says how to.
func (s *stage) bringEngine(ctx context.Context, wanted bool) error {
	commands := installing()
	switch {
	case commands == nil && wanted:
		return errors.New("no container engine works here, and there is no package manager to install podman with: install docker or podman")
	case commands == nil:
		say("containers are left out: no engine works here; docker or podman must be installed")
		return nil
	case !wanted:
		say("containers are left out: no engine works here; `%s` brings one, and so does `make demo INSTALL=1`", inWords(commands))
		return nil
	}
	say("no container engine works here: installing podman (INSTALL=1), by `%s`", inWords(commands))
	for _, words := range commands {
		c := exec.CommandContext(ctx, words[0], words[1:]...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
		}
	}
	return s.findEngine(ctx, "podman")
}

// findEngine looks for an engine that works, and has it stopped at the end.
func (s *stage) findEngine(ctx context.Context, only string) (err error) {
	if s.engine, err = engine.Find(ctx, s.dir, only, say); s.engine != nil {
		s.undo = append(s.undo, s.engine.Stop)
	}
	return err
}
