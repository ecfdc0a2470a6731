package dcap

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

// hangs is a source that gives nothing, and only when its caller gives up.
type hangs struct{ asked chan struct{} }

func (h hangs) Get(ctx context.Context, _ Document, _ string) (body, chain []byte, err error) {
	h.asked <- struct{}{}
	<-ctx.Done()
	return nil, nil, &NetworkError{"https://service.invalid", ctx.Err()}
}

// TestWaitersMayGiveUp: whoever waits for collateral that another goroutine gets waits no
// longer than its own context, and one that still waits asks when the other has given up.
func TestWaitersMayGiveUp(t *testing.T) {
	raw, err := simulated(t, sim.Config{}).Quote(t.Context(), hw.ReportData{1})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		held, source := NewHeld(), hangs{make(chan struct{}, 3)}
		ask := func(ctx context.Context) <-chan error {
			q, err := ParseQuote(raw)
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() {
				c, unavailable, unusable := held.Collateral(ctx, source, q, time.Now())
				if c != nil || unusable != nil {
					t.Error(c, unusable)
				}
				answer <- unavailable
			}()
			synctest.Wait()
			return answer
		}
		first, endFirst := context.WithCancel(t.Context())
		asks := ask(first)
		second, endSecond := context.WithCancel(t.Context())
		waits := ask(second)
		third, endThird := context.WithCancel(t.Context())
		later := ask(third)
		if len(source.asked) != 1 {
			t.Fatalf("the source was asked by %d at once", len(source.asked))
		}
		endSecond()
		synctest.Wait()
		select {
		case err := <-waits:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		default:
			t.Error("one whose context has ended waits for another's answer")
		}
		endFirst()
		var network *NetworkError
		if err := <-asks; !errors.As(err, &network) {
			t.Error(err)
		}
		synctest.Wait()
		if len(source.asked) != 2 {
			t.Errorf("the source was asked %d times, want 2: the one that still waits asks next", len(source.asked))
		}
		endThird()
		if err := <-later; !errors.As(err, &network) {
			t.Error(err)
		}
	})
}
