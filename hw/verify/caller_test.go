package verify

import (
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
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

// The pod of the claims is the launch's, in each of its names, and says nothing where the
// launch says nothing. Another pod has the same launch digest.
func TestPod(t *testing.T) {
	w := twoContainers(t)
	asked := `{"source":"bundle","cgroup_owner":0,"asked":{"arguments":["/app"]},"defaults":{"umask":18},"image_config":"` + imageDigestOf("one") + `"`
	w.own(idOne, logs.OpLaunch, asked+`}`)
	w.image(idOne, "one")
	plain := w.claims(idOne)
	plain.Container.Pod = rpc.PodClaims{Name: "web-1"}
	expect(t, appraiseT(t, encode(t, w.seal(plain, w.key)), w.options()), NotAuthentic, StepCaller)

	w.own(idOne, logs.OpLaunch, asked+`,"pod":{"container":"app","name":"web-1","namespace":"prod","uid":"u1"}}`)
	w.image(idOne, "one")
	right := rpc.PodClaims{Namespace: "prod", Name: "web-1", UID: "u1", Container: "app"}
	for _, claimed := range []rpc.PodClaims{
		right, {}, {Namespace: "prod", Name: "web-1", UID: "u1"}, {Namespace: "prod", Name: "web-2", UID: "u1", Container: "app"},
		{Namespace: "kube-system", Name: "web-1", UID: "u1", Container: "app"}, {Namespace: "prod", Name: "web-1", UID: "u2", Container: "app"},
	} {
		c := w.claims(idOne)
		if c.Container.LaunchDigest != plain.Container.LaunchDigest {
			t.Error("the pod is in the launch digest")
		}
		c.Container.Pod = claimed
		r := appraiseT(t, encode(t, w.seal(c, w.key)), w.options())
		if claimed == right {
			expect(t, r, NotTrusted)
		} else {
			expect(t, r, NotAuthentic, StepCaller)
		}
	}
	w.own(idOne, logs.OpLaunch, asked+`,"pod":{"node":"a"}}`)
	w.image(idOne, "one")
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
}
