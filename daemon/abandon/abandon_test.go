package abandon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A call that hangs is abandoned at its deadline. Who made several hang has none made any
// more, until they return, and others have.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calls
		why, release := errors.New("why"), make(chan struct{})
		hang := func() (int, error) { <-release; return 1, nil }
		answer := func() (int, error) { return 7, why }
		do := func(owner string, f func() (int, error)) (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return Do(ctx, &c, owner, f)
		}
		for range 2 * maxOfOwner {
			if n, err := do("b", answer); n != 7 || err != why {
				t.Fatalf("%d, %v", n, err)
			}
		}
		for range maxOfOwner {
			if _, err := do("a", hang); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("hangs: %v", err)
			}
		}
		if _, err := do("a", answer); !errors.Is(err, errHung) {
			t.Errorf("after %d that hang: %v", maxOfOwner, err)
		}
		if n, err := do("b", answer); n != 7 || err != why {
			t.Errorf("another's: %d, %v", n, err)
		}
		for i := range maxAll - maxOfOwner {
			if _, err := do(string(rune('c'+i)), hang); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("hangs: %v", err)
			}
		}
		if _, err := do("b", answer); !errors.Is(err, errHung) {
			t.Errorf("after %d that hang in all: %v", maxAll, err)
		}
		close(release)
		synctest.Wait()
		if n, err := do("a", answer); n != 7 || err != why || c.all != 0 || len(c.byOwner) != 0 {
			t.Errorf("after all have returned: %d, %v, %d still hang", n, err, c.all)
		}
	})
}
