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
	opts.Policy = parsePolicy(t, replaced(t, textOf(t, first), "[[boot]]\nname = \"as first seen\"", "[[boot]]\nname = \"release 7\""))
	second := appraiseT(t, bundle, opts)
	expect(t, second, Trusted)

	for _, c := range []struct {
		r    *Result
		says []string
		not  []string
	}{
		{first, []string{
			"who wrote what was booted: no reference value covers it", "no channel is bound", "that this is hardware",
			"what ran before the container was measured", "a program can run without an exec event",
			"patched", "the kernel gave its number alone", "authentic, not trusted, under a root that is simulated: Intel SGX Root CA of", "hint: ", "fresh",
		}, []string{"you know"}},
		{second, []string{
			`you know who wrote firmware, kernel and agent: the boot "release 7"`, "you know who asked", "\ntrusted, under a root that is simulated: Intel SGX Root CA of", "start-observed, waived",
			"no channel is bound", "what ran before the container was measured",
		}, []string{"who wrote what", "hint:"}},
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
		if lines := strings.Count(b.String(), "\n"); lines > 45 {
			t.Errorf("%d lines are no screen\n%s", lines, &b)
		}
	}
}
