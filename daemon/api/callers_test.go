package api

import (
	"testing"

	"github.com/cima-project/cima/daemon/peer"
)

// All uids of a user share one account.
func TestAccountsOfUsers(t *testing.T) {
	for want, c := range map[string]*caller{
		"uid 1000": {Caller: &peer.Caller{UID: 100007, User: 1000}},
		"uid 1001": {Caller: &peer.Caller{UID: 0, Container: &peer.Container{ID: "x", Name: "x"}, CgroupOwner: 1001}},
		"uid 1002": {Caller: &peer.Caller{Container: &peer.Container{ID: "x", Name: "x", UID: 1002}}},
		"x":        {Caller: &peer.Caller{UID: 100007, Container: &peer.Container{ID: "x", Name: "x"}}, owner: "x"},
	} {
		if got := c.charged(); got != want {
			t.Errorf("charged to %q, want %q", got, want)
		}
	}
}
