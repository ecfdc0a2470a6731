package quotes

import (
	"context"
	"testing"
)

// A caller that leaves at the moment when it gets its turn passes the turn on.
func TestTurnOfOneWhoLeaves(t *testing.T) {
	q := NewQueue(nil, 1, 10)
	if err := q.acquire(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	turn := make(chan bool)
	q.order, q.waiting["b"] = []string{"b"}, []chan bool{turn}
	q.release()
	<-turn
	q.leave("b", turn)
	if q.free != 1 || q.Waiting() != 0 {
		t.Errorf("%d turns are free, %d calls wait", q.free, q.Waiting())
	}
}
