package peer

import (
	"strconv"
	"strings"

	"github.com/cima-project/cima/daemon/trust"
)

// users maps uids to users, who are charged for all that they have.
type users struct{ subordinate *trust.SubUIDs }

// of returns the user of a process of the host. Its cgroup counts first: root owns
// user.slice, and a session can't leave the slice of its user.
func (u users) of(uid uint32, systemd string) uint32 {
	if uid == 0 {
		return 0
	}
	if slice, ok := strings.CutPrefix(systemd, "/user.slice/user-"); ok {
		name, _, _ := strings.Cut(slice, "/")
		if number, ok := strings.CutSuffix(name, ".slice"); ok {
			if owner, err := strconv.ParseUint(number, 10, 32); err == nil {
				return uint32(owner)
			}
		}
	}
	if owner, ok := u.subordinate.Owner(uid); ok {
		return owner
	}
	return uid
}
