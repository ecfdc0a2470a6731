package ledger

import (
	"testing"

	"github.com/cima-project/cima/logs"
)

func TestLaunchBeginsANewInstance(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, launch("a", "1"), extend("a", "x"))
	first, _ := l.Snapshot("a")
	must(t, l, launch("a", "2"), extend("a", "x"))
	second, _ := l.Snapshot("a")
	if first.Owner.Register != second.Owner.Register || second.Owner.Instance != "2" || second.Owner.Events != 2 {
		t.Fatalf("the same events of a new instance: %+v, then %+v", first.Owner, second.Owner)
	}
	events, err := l.Events("a")
	if err != nil || len(events) != 2 || events[0].Operation != logs.OpLaunch {
		t.Fatalf("events of the instance: %v, %v", events, err)
	}
}
