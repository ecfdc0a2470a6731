package containers

import (
	"os"
	"testing"

	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// A container whose record can't be read gets a power event while it runs,
// because nothing is known about it. A record without a running container gets
// none.
func TestUnreadableRecordsAreAnnounced(t *testing.T) {
	m := newManager(t)
	x := newExits(m)
	survey := func(rec records.Record) int {
		for range 2 {
			x.announceUnreadable(t.Context(), []records.Record{rec})
			for _, u := range x.unreadable {
				u.since = u.since.Add(-halfWritten)
			}
		}
		return len(ledgertest.Events(t, m.Ledger, "", logs.OpPower))
	}
	torn := records.Record{ID: "a", Bundle: "/a", Err: os.ErrInvalid}
	if n := survey(torn); n != 0 {
		t.Errorf("a torn record that nothing runs of: %d power events", n)
	}
	torn.InitPID = os.Getpid()
	if n := survey(torn); n != 1 {
		t.Errorf("a torn record of a container that runs: %d power events", n)
	}
	if n := survey(torn); n != 1 {
		t.Errorf("logged again: %d", n)
	}
}
