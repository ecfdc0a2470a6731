package oslog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// However two lists grow, entries that were shown keep their places, each list
// is complete and in order, and the order needs little memory.
func TestOrderKeepsItsNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var m Order
		var shown []string
		ima, own := 0, 0
		for range r.IntN(60) {
			ima += r.IntN(3) * r.IntN(20)
			own += r.IntN(2) * r.IntN(3)
			seenIMA, seenOwn := ima, own
			if r.IntN(4) == 0 { // a call that read the lists earlier, and returns later
				seenIMA, seenOwn = r.IntN(ima+1), r.IntN(own+1)
			}
			v := View{runs: m.grow(seenIMA, seenOwn)}
			var now []string
			for at := 0; at < v.Total(); {
				isIMA, index, count := v.Find(at)
				for i := range count {
					now = append(now, fmt.Sprint(isIMA, index+i))
				}
				at += count
			}
			if len(now) < len(shown) || !slices.Equal(now[:len(shown)], shown) {
				t.Fatalf("was shown:\n%q\nand now:\n%q", shown, now)
			}
			shown = now
		}
		for _, kind := range []bool{true, false} {
			n := 0
			for _, s := range shown {
				if strings.HasPrefix(s, fmt.Sprint(kind)) {
					if s != fmt.Sprint(kind, n) {
						t.Fatalf("%s is in the place of %d", s, n)
					}
					n++
				}
			}
		}
		if len(m.runs) > own+1 {
			t.Fatalf("%d runs for %d own events", len(m.runs), own)
		}
	}
}
