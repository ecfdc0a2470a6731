package instances

import (
	"fmt"

	"github.com/cima-project/cima/hw/verify/wanted"
	"github.com/cima-project/cima/rpc"
)

// Against compares the claims with the log, whose values are Want.
func (in *Instance) Against(c *rpc.ContainerClaims) (found wanted.Findings) {
	for _, one := range []struct{ what, want, got string }{
		{"container register", in.register.String(), c.Register.String()},
		{"launch digest", shownDigest(in.LaunchSum), shownDigest(c.LaunchDigest)},
		{"defaults digest", shownDigest(in.DefaultsDigest), shownDigest(c.DefaultsDigest)},
		{"image", in.Image.Reference, c.Image},
		{"image digest", in.Image.Digest, c.ImageDigest},
		{"cgroup owner", fmt.Sprint(in.CgroupOwner), fmt.Sprint(c.Assurance.CgroupOwner)},
	} {
		found.Want(one.want == one.got, one.what, one.want, one.got)
	}
	logged := rpc.PodClaims{Namespace: in.Pod.Namespace, Name: in.Pod.Name, UID: in.Pod.UID, Container: in.Pod.Container}
	if none := (rpc.PodClaims{}); logged != none || c.Pod != none {
		found.Want(logged == c.Pod, "pod", logged.String(), c.Pod.String())
	}
	return found
}

// shownDigest is a digest as a comparison shows it.
func shownDigest(d rpc.Digest) string {
	if d == (rpc.Digest{}) {
		return "none"
	}
	return d.String()
}
