package verify

import (
	"testing"

	"github.com/cima-project/cima/logs"
)

func TestLatestInstanceCounts(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpExit, "")
	opts := w.options()
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotAuthentic, StepCaller) // the instance has ended
	first := w.claims(idOne)
	w.launch(idOne, "one", "/bin/other")
	bundle := encode(t, w.evidence(idOne))
	expect(t, appraiseT(t, bundle, opts), NotTrusted)

	// Claims of the earlier instance, with today's log.
	c := w.claims(idOne)
	c.Container.LaunchDigest, c.Container.Register = first.Container.LaunchDigest, first.Container.Register
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts), NotAuthentic, StepCaller)
}

func TestOneImage(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpImage, `{"reference":"registry/one:2"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
}
