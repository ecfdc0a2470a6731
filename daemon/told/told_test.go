package told

import (
	"errors"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/records"
)

type held struct {
	command gate.Command
	in      string // the bundle of its working directory
}

func (h held) Command() gate.Command       { return h.command }
func (h held) Names(bundle, _ string) bool { return bundle == h.in }

// Those are noted, and announced, that a runtime with a strange option is about to make, and
// no others.
func TestNote(t *testing.T) {
	of := func(n int, uid uint32, pid int) records.Record {
		id := launchtest.ID(n)
		return records.Record{ID: id, Name: id, Bundle: "/b/" + id, UID: uid, InitPID: pid, Err: errors.New("its bundle is its key")}
	}
	named, other, users, runs := of(1, 0, 0), of(2, 0, 0), of(3, 1000, 0), of(4, 0, 7)
	all := []records.Record{named, other, users, runs}
	ids := []string{named.ID, users.ID, runs.ID}
	create := gate.Command{Name: "create", Arguments: ids, Strange: true}
	for what, tt := range map[string]struct {
		runtime held
		want    []string
	}{
		"a strange option":            {held{command: create}, []string{named.Name}},
		"no strange option":           {held{command: gate.Command{Name: "create", Arguments: ids}}, nil},
		"arguments that say no id":    {held{command: gate.Command{Strange: true}, in: other.Bundle}, []string{other.Name}},
		"another's working directory": {held{command: gate.Command{Strange: true}, in: "/b"}, nil},
	} {
		var s Starts
		var announced []string
		err := s.Note(all, tt.runtime, func(name string, classes []string) error {
			if !slices.Equal(classes, []string{"runtime-option"}) {
				t.Errorf("%s: classes %q", what, classes)
			}
			announced = append(announced, name)
			return nil
		})
		if err != nil || !slices.Equal(announced, tt.want) {
			t.Errorf("%s: announced %q, %v, must be %q", what, announced, err, tt.want)
		}
		for _, rec := range all {
			if has := s.Of(rec) != nil; has != slices.Contains(tt.want, rec.Name) {
				t.Errorf("%s: %d has a class: %t", what, rec.InitPID, has)
			}
		}
		s.Retain(map[string]bool{})
		if s.Of(named) != nil || s.Of(other) != nil {
			t.Errorf("%s: what is gone is not forgotten", what)
		}
	}
	var s Starts
	full := errors.New("the log is full")
	if err := s.Note(all, held{command: create}, func(string, []string) error { return full }); !errors.Is(err, full) {
		t.Errorf("what can't be announced: %v", err)
	}
}
