package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// TestFit: rows fit the terminal, the widest column gives way, and names keep their ends.
func TestFit(t *testing.T) {
	rows := func() [][]string {
		return [][]string{{"CONTAINER", "MEASURED", "IMAGE"}, {"116c5478116d", "gated", "registry.example/a/very/long/path/to/an/image/with-a-name:1.2.3"}, {"ü", "no evidence: the record is not there yet", "hello:1"}}
	}
	for _, wide := range []int{40, 60, 80, 200} {
		total := 0
		got := Fit(rows(), wide)
		for i := range got[0] {
			n := 0
			for _, row := range got {
				n = max(n, utf8.RuneCountInString(row[i]))
			}
			total += n + 2
		}
		if total-2 > wide {
			t.Errorf("%d columns are wanted, and %d are there: %q", wide, total-2, got)
		}
	}
	if got := Fit(rows(), 60)[1][2]; !strings.HasSuffix(got, ":1.2.3") || !strings.Contains(got, "…") {
		t.Errorf("the image is %q", got)
	}
	if got := Fit(rows(), 0); !slices.EqualFunc(got, rows(), slices.Equal[[]string]) {
		t.Errorf("without a terminal: %q", got)
	}
	if a, b, c := ShortID("1000/"+strings.Repeat("ab", 32), 80), ShortID("short", 80), ShortID(strings.Repeat("ab", 32), 0); a != "1000/abababababab" || b != "short" || len(c) != 64 {
		t.Errorf("%q, %q, %q", a, b, c)
	}
}

// TestWatch: what is drawn replaces what stood there, each time, until it is interrupted or
// fails.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		w := Watching{every: 2 * time.Second}
		var out bytes.Buffer
		n := 0
		err := w.Show(ctx, &out, func(to io.Writer) error { n++; _, err := io.WriteString(to, "row\n"); return err })
		if err != nil || n != 3 || strings.Count(out.String(), "\x1b[H\x1b[2Jrow\n") != 3 {
			t.Errorf("%d times, %v: %q", n, err, out.String())
		}
		gone := errors.New("gone")
		if err := w.Show(t.Context(), &out, func(io.Writer) error { return gone }); !errors.Is(err, gone) {
			t.Errorf("a daemon that is gone: %v", err)
		}
	})
	for args, want := range map[string]string{
		"--watch=10ms": "at least 1s", "--watch=-1s": "at least 1s", "--watch=2s": "a terminal on stdout", "": "",
	} {
		var w Watching
		c := &cobra.Command{RunE: func(c *cobra.Command, _ []string) error { return w.Check(c, false) }, SilenceErrors: true, SilenceUsage: true}
		c.SetOut(&bytes.Buffer{})
		w.Flag(c)
		c.SetArgs(strings.Fields(args))
		if err := c.Execute(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
