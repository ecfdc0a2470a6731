package containers

import (
	"encoding/json/jsontext"
	"testing"

	"github.com/cima-project/cima/rpc"
)

// A launch that a daemon of an earlier version logged, before it was upgraded, has no
// digest that its container could claim.
func TestFactsOfAnEarlierLaunch(t *testing.T) {
	image := jsontext.Value(`{"digest":"sha256:aa","reference":"r:1"}`)
	for launched, has := range map[string]bool{
		`{"arguments":["/bin/app"],"capabilities":{},"cgroup_owner":0,"source":"bundle","user":{"gid":0,"uid":0}}`: false,
		`{"capabilities":{},"cgroup_owner":0,"source":"bundle","user":{"gid":0,"uid":0},"whole":"aa"}`:             false,
		`{"asked":{"user":{"gid":0,"uid":0}},"cgroup_owner":0,"defaults":{"capabilities":{}},"source":"bundle"}`:   true,
	} {
		f, err := newFacts(jsontext.Value(launched), image)
		if err != nil {
			t.Errorf("%s: %v", launched, err)
			continue
		}
		if (f.LaunchDigest != rpc.Digest{}) != has || (f.DefaultsDigest != rpc.Digest{}) != has || f.Image.Reference != "r:1" {
			t.Errorf("%s: %+v", launched, f)
		}
	}
}
