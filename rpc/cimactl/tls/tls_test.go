package tls

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A few refusals are all told, each by its line. A flood is a line a second, and counted.
func TestNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n := &notes{to: &out}
		for i := range 1000 {
			n.say("refusal %d", i)
		}
		want := ""
		for i := range atOnce {
			want += fmt.Sprintf("cimactl: refusal %d\n", i)
		}
		if out.String() != want {
			t.Errorf("%s", out.String())
		}
		out.Reset()
		time.Sleep(time.Second)
		n.say("next")
		n.say("too many")
		if want := "cimactl: next (and 980 more)\n"; out.String() != want {
			t.Errorf("%q", out.String())
		}
		time.Sleep(time.Hour)
		out.Reset()
		for range 1000 {
			n.say("later")
		}
		if got := strings.Count(out.String(), "\n"); got != atOnce {
			t.Errorf("%d lines after a rest", got)
		}
	})
}
