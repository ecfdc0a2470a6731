package main

import (
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cima-project/cima/rpc"
)

// status names the power that stands in everybody's evidence, and containers whose it is.
func TestPowerIsShown(t *testing.T) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	printStatus(w, rpc.Status{Power: []string{"capability:CAP_SYS_ADMIN", "special-file:/run"}})
	w.Flush()
	for _, line := range []string{
		"\npower        capability:CAP_SYS_ADMIN: in everybody's evidence until the next boot\n",
		"\n             special-file:/run: in everybody's evidence until the next boot\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q must have %q", &out, line)
		}
	}
	out.Reset()
	printStatus(w, rpc.Status{Power: []string{}})
	w.Flush()
	if strings.Contains(out.String(), "power") {
		t.Errorf("no power: %s", &out)
	}
	var words []string
	for _, row := range containerRows([]rpc.ContainerStatus{{}, {Power: []string{}}, {Power: []string{"a", "b"}}}, 0) {
		words = append(words, row[4])
	}
	if want := []string{"POWER", "?", "none", "a,b"}; !slices.Equal(words, want) {
		t.Errorf("%q, not %q", words, want)
	}
}
