package verify

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
)

// TestTable: a table shows what a reader must know, on one screen.
func TestTable(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, `one\u001b[2J\u202e`, "/bin/one")
	c := w.claims(idOne)
	c.Container.Assurance.Start, c.Container.Assurance.PIDFD = "observed", false
	bundle, opts := encode(t, w.seal(c, w.key)), w.options()
	first := appraiseT(t, bundle, opts)
	opts.Policy = policyOf(t, first)
	opts.Policy.Boot[0].Name = "release 7"
	second := appraiseT(t, bundle, opts)
	expect(t, second, Trusted)

	for _, c := range []struct {
		r    *Result
		says []string
		not  []string
	}{
		{first, []string{
			"who wrote it: no reference value covers the boot", "channel: not bound", "that this is hardware",
			"what ran before the container was measured", "a program without an exec event may have run all the same",
			"patched", "the kernel gave its number only", "authentic, not trusted: boot-values", "hint: ", "fresh",
		}, []string{"you know"}},
		{second, []string{
			`you know who wrote firmware, kernel and agent: the boot "release 7"`, "you know who asked", "\ntrusted\n",
			"channel: not bound", "what ran before the container was measured",
		}, []string{"who wrote it:", "hint:"}},
	} {
		var b strings.Builder
		if err := c.r.WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in\n%s", want, &b)
			}
		}
		for _, bad := range append(c.not, "\x1b", "\u202e") {
			if strings.Contains(b.String(), bad) {
				t.Errorf("%q is in\n%s", bad, &b)
			}
		}
		if lines := strings.Count(b.String(), "\n"); lines > 40 {
			t.Errorf("%d lines are no screen\n%s", lines, &b)
		}
	}
}
