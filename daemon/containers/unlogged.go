package containers

import (
	"context"
	"errors"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
)

// announceUnlogged announces a container whose launch the log has no space for, and that
// nobody judged at START: its launch would be followed by that. A container that has used
// up its own share is not announced: it had the same power at the starts that are logged,
// and by a restart it could have itself announced.
func announceUnlogged(ctx context.Context, m *Manager, i *Instance, rec records.Record, why error) error {
	if !errors.Is(why, errUnlogged) || errors.Is(why, ledger.ErrSpent) || m.unlogged.IsJudged(rec.Name, rec.StartKey()) || isUnsettled(rec, &i.unsettled) {
		return nil
	}
	return m.announceUnseen(ctx, i.Owner, rec)
}
