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
	if owner, ok := ofSlice(systemd); ok {
		return owner
	}
	if owner, ok := u.subordinate.Owner(uid); ok {
		return owner
	}
	return uid
}

// ofSlice returns the user whose slice of systemd's a cgroup is in.
func ofSlice(systemd string) (uint32, bool) {
	slice, _ := strings.CutPrefix(systemd, "/user.slice/user-")
	name, _, _ := strings.Cut(slice, "/")
	number, ok := strings.CutSuffix(name, ".slice")
	if !ok || slice == systemd {
		return 0, false
	}
	owner, err := strconv.ParseUint(number, 10, 32)
	return uint32(owner), err == nil
}

// payer names who is charged for what a caller does.
func (u users) payer(c *Caller) string {
	if c.Container == nil {
		return userOrigin(c.User)
	}
	if c.Container.UID != 0 {
		return userOrigin(u.of(c.Container.UID, ""))
	}
	if _, subordinate := u.subordinate.Owner(c.CgroupOwner); c.CgroupOwner == 0 || subordinate {
		return c.Container.Name
	}
	return userOrigin(c.CgroupOwner)
}
