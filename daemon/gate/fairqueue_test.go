package gate

import (
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
)

// Each payer gets its turn, none gets more than its share of places and
// workers, and no process is lost.
func TestFairQueue(t *testing.T) {
	limits := limits{held: 1024, heldPerPayer: 128, workers: 16, workersPerPayer: 4}
	s := newFairQueue(limits)
	a, b := payer{space: procfs.FileID{Inode: 1}}, payer{device: 1}
	for range limits.heldPerPayer {
		if !s.put(&HeldExec{payer: a}) {
			t.Fatal("no place")
		}
	}
	if s.put(&HeldExec{payer: a}) {
		t.Error("one more than its share")
	}
	if !s.put(&HeldExec{payer: b}) {
		t.Error("no place for another")
	}
	var got []payer
	var out []*HeldExec
	for range limits.workersPerPayer + 1 {
		h := s.next()
		out, got = append(out, h), append(got, h.payer)
	}
	if got[1] != b {
		t.Errorf("the other got its turn as number %v", got)
	}
	if len(s.turns) != 0 {
		t.Error("one has more workers than its share")
	}
	s.close()
	for n := 0; len(out) > 0; n++ {
		s.done(out[0])
		if out = out[1:]; len(s.turns) > 0 {
			out = append(out, s.next())
		}
	}
	if s.next() != nil || s.total != 0 || len(s.byPayer) != 0 {
		t.Errorf("%d are still held, %d have a share", s.total, len(s.byPayer))
	}
	for i := range limits.held + 1 {
		if ok := s.put(&HeldExec{payer: payer{device: uint64(i)}}); ok != (i < limits.held) {
			t.Errorf("%d are held: a place for one more: %t", i, ok)
		}
	}
}
