package daemon

import (
	"context"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
)

// slowQuotes delays each quote, and counts them.
type slowQuotes struct {
	hw.TEE
	begun atomic.Int32
}

func (s *slowQuotes) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	s.begun.Add(1)
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.TEE.Quote(ctx, data)
}

// TestContainersShare: containers that start together share a quote, as those
// of a compose file.
func TestContainersShare(t *testing.T) {
	f := dockerFixture(t)
	f.stop()
	tee := &slowQuotes{TEE: f.machine}
	f.tee = tee
	f.start()
	const containers = 5
	bundles := make([][]byte, containers)
	var wg sync.WaitGroup
	for i := range bundles {
		wg.Go(func() {
			var err error
			bundles[i], err = f.inContainer(nil, "evidence", "--shared", "--nonce", hex.EncodeToString(nonce))
			if err != nil {
				t.Errorf("container %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	ids := make(map[string]bool)
	for _, b := range bundles {
		f.wantAuthentic(b)
		ids[claimsOf(t, b).Container.ID] = true
		for other := range ids {
			if id := claimsOf(t, b).Container.ID; other != id && strings.Contains(string(b), other) {
				t.Errorf("evidence of %s names %s", id, other)
			}
		}
	}
	if n := int(tee.begun.Load()); n >= containers || len(ids) != containers {
		t.Errorf("%d containers, %d quotes", len(ids), n)
	}
}
