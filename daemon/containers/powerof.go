package containers

import (
	"context"
	"fmt"
	"slices"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/records"
)

// powerOf returns the classes of power of an instance: those of its specification, and
// those that its first process showed at START. A start that nobody saw, or whose classes
// nobody kept, has the class that says so, and what its first process shows now.
func (m *Manager) powerOf(ctx context.Context, i *Instance, rec records.Record, instance string, gated bool) ([]string, error) {
	asked, err := m.Records().Power(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("power of container %.12s: %w", rec.Name, err)
	}
	classes := append([]string{}, asked...)
	shown, known := m.confirmed.Power(i.Owner, instance)
	if !gated || !known {
		shown = append(m.shownNow(ctx, rec), power.UnseenStart)
	}
	classes = append(classes, shown...)
	slices.Sort(classes)
	return slices.Compact(classes), nil
}

// shownNow are the classes that the first process of a running container shows. It may
// hide what it likes, so a failure to look is no failure: powerOf adds UnseenStart.
func (m *Manager) shownNow(ctx context.Context, rec records.Record) []string {
	init, err := openProcess(rec)
	if err != nil {
		return nil
	}
	defer closeProcess(init)
	init.Ran = true
	verdict, err := abandon.Do(ctx, &m.calls, rec.Name, func() (power.Verdict, error) { return m.Records().Judge(ctx, rec, init) })
	if err != nil {
		m.Log.Debug("a container that runs was not judged", "container", rec.Name, "error", err)
	}
	return slices.Clone(verdict.Classes)
}
