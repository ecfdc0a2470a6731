package gate

import "testing"

// Each payer gets its turn, none gets more than its share of places and
// workers, and no process is lost.
func TestFairQueue(t *testing.T) {
	s := newFairQueue()
	a, b := payer{user: 1}, payer{device: 1}
	for range maxHeldPerPayer {
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
	for range workersPerPayer + 1 {
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
	if s.next() != nil || s.held != 0 || len(s.byPayer) != 0 {
		t.Errorf("%d are still held, %d have a share", s.held, len(s.byPayer))
	}
	for i := range maxHeld + 1 {
		if ok := s.put(&HeldExec{payer: payer{device: uint64(i)}}); ok != (i < maxHeld) {
			t.Errorf("%d are held: a place for one more: %t", i, ok)
		}
	}
}
