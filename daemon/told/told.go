// Package told answers: what was a runtime told of a container besides its bundle?
//
// A launch is what the bundle says, and the kernel shows at START what came of it. An
// option of the runtime's can change what neither shows: podman's no_pivot_root and keyring
// (containers.conf(5)) become such options.
package told

import (
	"sync"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/records"
)

// Starts are those starts whose runtime was told more than their bundles say. The zero value
// is empty.
type Starts struct {
	mu    sync.Mutex
	byKey map[string]bool // by records.Record.StartKey
}

// Runtime is a process that is about to be a runtime; *gate.HeldExec is one.
type Runtime interface {
	Command() gate.Command
	Names(bundle, id string) bool
}

// Note notes the containers that a runtime is about to make, if it is told more than their
// bundles say, and has each announced first.
func (s *Starts) Note(list []records.Record, runtime Runtime, announce func(name string, classes []string) error) error {
	c := runtime.Command()
	if !c.Strange {
		return nil
	}
	for _, rec := range list {
		if rec.UID != 0 || rec.InitPID != 0 || !c.Names(rec.ID) && !runtime.Names(rec.Bundle, rec.ID) {
			continue
		}
		if err := announce(rec.Name, []string{power.RuntimeOption}); err != nil {
			return err
		}
		s.mu.Lock()
		if s.byKey == nil {
			s.byKey = make(map[string]bool)
		}
		s.byKey[rec.StartKey()] = true
		s.mu.Unlock()
	}
	return nil
}

// Of returns the classes of power that a start has by what its runtime was told.
func (s *Starts) Of(rec records.Record) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[rec.StartKey()] {
		return []string{power.RuntimeOption}
	}
	return nil
}

// Retain forgets all starts but those with these keys.
func (s *Starts) Retain(live map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.byKey {
		if !live[key] {
			delete(s.byKey, key)
		}
	}
}
