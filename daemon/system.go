package daemon

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/services"
	"github.com/cima-project/cima/logs"
)

// systemInterval is how often processes of the host are looked through.
const systemInterval = 5 * time.Second

// isNamed reports whether a rule names a process.
func isNamed(r config.SystemRule, p services.Process) bool {
	if r.Path != "" {
		// Anybody can have a file of any path, in a mount namespace of
		// their own.
		return p.UID == 0 && executablePath(p) == r.Path
	}
	ok, _ := path.Match(r.Unit, p.Unit)
	return ok && p.Unit != ""
}

// executablePath is where the executable was when it was started; the kernel
// marks what was removed since, as package upgrades do.
func executablePath(p services.Process) string { return strings.TrimSuffix(p.Path, " (deleted)") }

// systemEvent is measured.system.
type systemEvent struct {
	Path   string        `json:"path"`
	SHA384 string        `json:"sha384"`         // of the running executable's bytes
	Argv   []launch.Text `json:"argv,omitempty"` // where policy wants it
}

// system measures the services that policy names, at start and whenever one is
// started again.
type system struct {
	d     *Daemon
	proc  string
	rules func() []config.SystemRule

	seen   map[string]bool // processes, by pid and start
	logged map[string]bool // what was said already: a service of many processes is said once
}

// systemAccount pays for all host services: who makes one start over and over,
// with ever new arguments, can't fill the log.
const systemAccount = "host services"

// maxSaid bounds what is remembered; beyond it things are said again.
const maxSaid = 4096

func (d *Daemon) watchSystem(ctx context.Context) {
	s := newSystem(d, func() []config.SystemRule { return d.config().System })
	for {
		if len(s.rules()) > 0 {
			if err := s.look(ctx); err != nil {
				d.log.Warn("host services not measured", "error", err)
			}
		}
		pause(ctx, systemInterval)
		if ctx.Err() != nil {
			return
		}
	}
}

func newSystem(d *Daemon, rules func() []config.SystemRule) *system {
	return &system{d: d, proc: "/proc", rules: rules, seen: make(map[string]bool), logged: make(map[string]bool)}
}

// look measures processes that weren't there the last time.
func (s *system) look(ctx context.Context) error {
	all, err := services.Processes(s.proc)
	if err != nil {
		return err
	}
	rules, now := s.rules(), make(map[string]bool, len(all))
	for _, p := range all {
		key := fmt.Sprint(p.PID, " ", p.Start)
		now[key] = true
		if s.seen[key] {
			continue
		}
		i := slices.IndexFunc(rules, func(r config.SystemRule) bool { return isNamed(r, p) })
		if i < 0 {
			continue
		}
		if err := s.measure(ctx, p, rules[i]); err != nil && !errors.Is(err, services.ErrGone) {
			return err
		}
	}
	s.seen = now
	return nil
}

func (s *system) measure(ctx context.Context, p services.Process, r config.SystemRule) error {
	digest, argv, err := p.Measure()
	if err != nil {
		return err
	}
	e := systemEvent{Path: executablePath(p), SHA384: digest}
	if r.Arguments {
		e.Argv = argv
	}
	// A server that forks, or is started again as it was, says nothing new.
	said := fmt.Sprintf("%q", e)
	if s.logged[said] {
		return nil
	}
	if _, err := s.d.ledger.AppendUntil(ctx, ledger.Event{Operation: logs.OpSystem, Measured: e, Charge: systemAccount}); err != nil {
		return err
	}
	s.d.log.Info("host service measured", "path", p.Path, "unit", p.Unit, "pid", p.PID)
	if len(s.logged) >= maxSaid {
		clear(s.logged)
	}
	s.logged[said] = true
	return nil
}
