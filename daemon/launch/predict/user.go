package predict

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxUsers bounds the bytes of an image's passwd, and of its group.
const maxUsers = 4 << 20

// Users are an image's /etc/passwd and /etc/group. Engines look users and groups up
// there.
type Users struct {
	passwd, group [][]string // fields of each line
}

// ParseUsers reads passwd(5) and group(5). A file that the image hasn't is empty.
func ParseUsers(passwd, group []byte) (*Users, error) {
	if len(passwd) > maxUsers || len(group) > maxUsers {
		return nil, fmt.Errorf("passwd and group of an image must have at most %d bytes each", maxUsers)
	}
	return &Users{fields(passwd), fields(group)}, nil
}

func fields(text []byte) (out [][]string) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxUsers+1)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			out = append(out, strings.Split(line, ":"))
		}
	}
	return out
}

// id is the n-th field of an entry, as a number.
func id(entry []string, n int) (uint32, bool) {
	if len(entry) <= n {
		return 0, false
	}
	v, err := strconv.ParseUint(entry[n], 10, 31)
	return uint32(v), err == nil
}

// find returns the entry that has this name, or this id as its third field.
func find(entries [][]string, name string) []string {
	number, err := strconv.ParseUint(name, 10, 31)
	for _, e := range entries {
		if v, ok := id(e, 2); ok && (e[0] == name || err == nil && v == uint32(number)) {
			return e
		}
	}
	return nil
}

// groupsOf are the groups that list a user as a member.
func (u *Users) groupsOf(user string) (out []uint32) {
	for _, g := range u.group {
		if v, ok := id(g, 2); ok && len(g) > 3 && slices.Contains(strings.Split(g[3], ","), user) {
			out = append(out, v)
		}
	}
	return out
}

// user is the user of the first process, found as engines find it (moby/sys/user,
// GetExecUser).
func (b *builder) user() (object, error) {
	name := b.c.User
	if name == "" {
		name = b.image.Config.User
	}
	user, group, explicit := strings.Cut(name, ":")
	if b.c.Engine == Kubelet { // which leaves out the group of the image's
		group, explicit = b.c.Group, b.c.Group != ""
	}
	if user == "" {
		user = "0"
	}
	uid, gid, extra, err := b.find(user, explicit && group != "" && (b.c.Engine != Kubelet || b.c.NoImageGroups))
	if err != nil {
		return nil, err
	}
	if explicit && group != "" {
		if gid, err = b.groupID(group); err != nil {
			return nil, err
		}
		if b.c.Engine != Kubelet {
			extra = nil
		}
	}
	if b.c.NoImageGroups {
		extra = nil
	}
	for _, g := range b.c.Groups {
		v, err := b.groupID(g)
		if err != nil {
			return nil, err
		}
		extra = append(extra, v)
	}
	out := object{"uid": uid, "gid": gid, "additionalGids": extra}
	if b.c.Umask != nil {
		out["umask"] = *b.c.Umask
	}
	return out, nil
}

// find looks a user up. withGroup says that the line names the group, so that the
// image's files say no more of groups.
func (b *builder) find(user string, withGroup bool) (uid, gid uint32, extra []uint32, err error) {
	number, notNumber := strconv.ParseUint(user, 10, 31)
	users := b.image.Users
	if users == nil {
		switch {
		case notNumber == nil && withGroup:
		case notNumber == nil:
			b.doubt("asked.user", fmt.Sprintf("the image's /etc/passwd and /etc/group say which groups the user %s has", user), "group 0 and no others (--image reads the image's files; --user UID:GID names the group)")
		case user == "root":
			b.doubt("asked.user", "the image's /etc/passwd and /etc/group say who root is", "uid 0, group 0 and no others (--image reads the image's files)")
		default:
			b.doubt("asked.user", fmt.Sprintf("the image's /etc/passwd says which uid the user %s has (--image reads it)", user), "")
		}
		return uint32(number), 0, nil, nil
	}
	entry := find(users.passwd, user)
	if entry == nil {
		if notNumber != nil {
			return 0, 0, nil, fmt.Errorf("the image's /etc/passwd has no user %q", user)
		}
		return uint32(number), 0, nil, nil
	}
	uid, _ = id(entry, 2)
	gid, _ = id(entry, 3)
	if len(entry) > 5 {
		b.home = entry[5]
	}
	return uid, gid, users.groupsOf(entry[0]), nil
}

func (b *builder) groupID(group string) (uint32, error) {
	number, err := strconv.ParseUint(group, 10, 31)
	if b.image.Users == nil {
		if err != nil {
			b.doubt("asked.user", fmt.Sprintf("the image's /etc/group says which gid the group %s has (--image reads it)", group), "")
		}
		return uint32(number), nil
	}
	if entry := find(b.image.Users.group, group); entry != nil {
		gid, _ := id(entry, 2)
		return gid, nil
	}
	if err != nil {
		return 0, fmt.Errorf("the image's /etc/group has no group %q", group)
	}
	return uint32(number), nil
}
