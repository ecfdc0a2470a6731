package records

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
)

// idMap maps size ids of the container, from Container on, to the host's.
type idMap struct {
	Container uint32 `json:"containerID"`
	Host      uint32 `json:"hostID"`
	Size      uint32 `json:"size"`
}

// idMaps are those of a user namespace; none where the container has none of its own.
type idMaps struct {
	UIDs []idMap `json:"uidMappings"`
	GIDs []idMap `json:"gidMappings"`
}

// maxIDMaps is the most that the kernel takes (user_namespaces(7)).
const maxIDMaps = 340

// readIDMaps reads those of a config.json.
func readIDMaps(raw []byte) (idMaps, error) {
	var c struct {
		Linux idMaps `json:"linux"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return idMaps{}, err
	}
	if len(c.Linux.UIDs) > maxIDMaps || len(c.Linux.GIDs) > maxIDMaps {
		return idMaps{}, fmt.Errorf("at most %d mappings of ids are possible", maxIDMaps)
	}
	return c.Linux, nil
}

// host returns the host's id, false where it isn't mapped.
func host(maps []idMap, id uint32) (uint32, bool) {
	if len(maps) == 0 {
		return id, true
	}
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), true
		}
	}
	return 0, false
}

// mapped reports whether an id of the host has one in the container.
func mapped(maps []idMap, id uint32) bool {
	return len(maps) == 0 || slices.ContainsFunc(maps, func(m idMap) bool { return id >= m.Host && id-m.Host < m.Size })
}

// identity is the container's user, by the host's ids, and what lets it pass permissions.
type identity struct {
	uid      uint32
	groups   []uint32
	none     bool // it has no id on the host: the runtime fails
	search   bool // CAP_DAC_READ_SEARCH
	override bool // CAP_DAC_OVERRIDE
	maps     idMaps
}

// userOf returns the user of a container's first process; raw is its config.json.
func userOf(c *launch.Spec, raw []byte) identity {
	var maps idMaps
	if bytes.Contains(raw, []byte("idMappings")) {
		var err error
		if maps, err = readIDMaps(raw); err != nil {
			return identity{none: true}
		}
	}
	p := c.Process
	u := identity{
		maps:     maps,
		search:   slices.Contains(p.Capabilities.Effective, "CAP_DAC_READ_SEARCH"),
		override: slices.Contains(p.Capabilities.Effective, "CAP_DAC_OVERRIDE"),
	}
	var ok bool
	u.uid, ok = host(maps.UIDs, p.User.UID)
	u.none = !ok
	for _, g := range append([]uint32{p.User.GID}, p.User.AdditionalGIDs...) {
		if g, ok := host(maps.GIDs, g); ok {
			u.groups = append(u.groups, g)
		}
	}
	return u
}

// errListed says that an access control list decides, and what it says isn't known.
var errListed = errors.New("an access control list decides")

// maySearch returns an error unless the user may look names up in a directory.
func (u *identity) maySearch(fd int, st *unix.Stat_t) error {
	if u == nil || (u.search || u.override) && u.commands(st) {
		return nil
	}
	return u.permission(fd, st)
}

// mayExecute returns an error unless the user may execute a file.
func (u *identity) mayExecute(fd int, st *unix.Stat_t) error {
	switch {
	case st.Mode&0o111 == 0:
		return unix.EACCES
	case u == nil || u.override && u.commands(st):
		return nil
	}
	return u.permission(fd, st)
}

// permission is what the mode allows (path_resolution(7)).
func (u *identity) permission(fd int, st *unix.Stat_t) error {
	allowed := uint32(0o001)
	switch {
	case u.none:
		return unix.EACCES
	case st.Uid == u.uid:
		allowed = 0o100
	case hasList(fd):
		return errListed
	case slices.Contains(u.groups, st.Gid):
		allowed = 0o010
	}
	if st.Mode&allowed == 0 {
		return unix.EACCES
	}
	return nil
}

// commands reports whether the capabilities of the user's namespace count for a file
// (user_namespaces(7)).
func (u *identity) commands(st *unix.Stat_t) bool {
	return !u.none && mapped(u.maps.UIDs, st.Uid) && mapped(u.maps.GIDs, st.Gid)
}

// hasList reports whether a file has an access control list, or may have one.
func hasList(fd int) bool {
	_, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP)
}
