// Package engine answers: how does a test get a container engine of its own?
//
// Alone continues a program in namespaces that hide the machine's engines and
// containers; Docker and Podman give it engines there, which end with it.
// Programs that show something on the machine itself (packaging/test/demo,
// bench) look for a working engine, with Find.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Engine is a container engine.
type Engine struct {
	Name   string   // "docker" or "podman"
	Client []string // the command of its client, with global flags
	Run    []string // flags of run and create that this machine needs
	Config string   // TOML that cimad's configuration must have for this engine
	Socket string   // path of its API socket; "" where there is none
}

// startTimeout is how long an engine may take to start.
const startTimeout = time.Minute

// Command is the engine's client with arguments.
func (e *Engine) Command(ctx context.Context, args ...string) *exec.Cmd {
	all := append(e.Client[:len(e.Client):len(e.Client)], args...)
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

// Do runs the engine's client with input and returns its output, without
// surrounding white space. An error ends with the last line that the client
// printed.
func (e *Engine) Do(ctx context.Context, input string, args ...string) (string, error) {
	c := e.Command(ctx, args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", e.Name, strings.Join(args, " "), err, lastLine(exit.Stderr))
	}
	return strings.TrimSpace(string(out)), err
}

func lastLine(text []byte) string {
	s := strings.TrimSpace(string(text))
	return s[strings.LastIndexByte(s, '\n')+1:]
}
