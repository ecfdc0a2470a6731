package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// surveyInterval is the time between two surveys of the host's processes.
const surveyInterval = 5 * time.Second

// payer pays for the events of all host services: a service that starts over and
// over, with ever new arguments, can't fill the log.
const payer = "host services"

// maxLogged bounds how many measurements are remembered as logged. Beyond it they
// are logged again.
const maxLogged = 4096

// Watcher measures the host services that [[system]] rules name, when the daemon
// starts and whenever a service starts again.
type Watcher struct {
	ledger *ledger.Ledger
	log    *slog.Logger
	proc   string

	seen   map[string]bool // processes, by pid and start time
	logged map[string]bool // measurements: a service of many processes is logged once
}

// NewWatcher makes a watcher that logs to l.
func NewWatcher(l *ledger.Ledger, log *slog.Logger) *Watcher {
	return &Watcher{ledger: l, log: log, proc: "/proc", seen: make(map[string]bool), logged: make(map[string]bool)}
}

// Watch surveys the host's processes until ctx ends.
func (w *Watcher) Watch(ctx context.Context, rules func() []config.SystemRule) {
	for ctx.Err() == nil {
		if r := rules(); len(r) > 0 {
			if err := w.survey(ctx, r); err != nil {
				w.log.Warn("host services are not measured", "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(surveyInterval):
		}
	}
}

// survey measures processes that weren't there at the last survey.
func (w *Watcher) survey(ctx context.Context, rules []config.SystemRule) error {
	all, err := processes(w.proc)
	if err != nil {
		return err
	}
	now := make(map[string]bool, len(all))
	for _, p := range all {
		key := fmt.Sprint(p.pid, " ", p.start)
		now[key] = true
		if w.seen[key] {
			continue
		}
		i := slices.IndexFunc(rules, func(r config.SystemRule) bool { return matches(r, p) })
		if i < 0 {
			continue
		}
		if err := w.measure(ctx, p, rules[i]); err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	w.seen = now
	return nil
}

func (w *Watcher) measure(ctx context.Context, p process, r config.SystemRule) error {
	digest, argv, err := p.measure()
	if err != nil {
		return err
	}
	e := logs.SystemBody{Path: executable(p), SHA384: digest}
	if r.Arguments {
		for _, a := range argv {
			e.Argv = append(e.Argv, a)
		}
	}
	// A server that forks, or is started again unchanged, adds nothing.
	key := fmt.Sprintf("%q", e)
	if w.logged[key] {
		return nil
	}
	if _, err := w.ledger.Append(ctx, ledger.Event{Operation: logs.OpSystem, Measured: e, Charge: payer}); err != nil {
		return err
	}
	w.log.Info("host service measured", "path", p.path, "unit", p.unit, "pid", p.pid)
	if len(w.logged) >= maxLogged {
		clear(w.logged)
	}
	w.logged[key] = true
	return nil
}

// matches reports whether a rule names a process.
func matches(r config.SystemRule, p process) bool {
	if r.Path != "" {
		// A user can have a file of any path, in a mount namespace of its own.
		return p.uid == 0 && executable(p) == r.Path
	}
	ok, _ := path.Match(r.Unit, p.unit)
	return ok && p.unit != ""
}

// executable is the path of the executable when it was started. The kernel marks
// a file that was removed since, as package upgrades remove it.
func executable(p process) string { return strings.TrimSuffix(p.path, " (deleted)") }
