package predict

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// memoryNodes are the device nodes that the kernel makes alike everywhere: number and
// mode are in its source (drivers/char/mem.c).
var memoryNodes = map[string]Node{
	"/dev/null": {"c", 1, 3, 0o666, 0, 0}, "/dev/zero": {"c", 1, 5, 0o666, 0, 0}, "/dev/full": {"c", 1, 7, 0o666, 0, 0},
	"/dev/random": {"c", 1, 8, 0o666, 0, 0}, "/dev/urandom": {"c", 1, 9, 0o666, 0, 0},
}

// deviceRule is what --device-cgroup-rule takes.
var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// devices are the nodes and the rules of the device cgroup.
func (b *builder) devices() (nodes, rules []object, err error) {
	for _, r := range launch.DeviceRules() {
		rules = append(rules, ruleOf(r))
	}
	switch {
	case b.c.Privileged:
		rules = []object{{"allow": true, "access": "rwm"}}
	case b.c.Engine == Podman && len(b.c.uidMap) > 0:
		rules = nil // podman writes none for a user namespace
	}
	for _, d := range b.c.devices {
		if b.c.Privileged {
			break // each is allowed already
		}
		node, ok := b.host.Devices[d.host]
		if !ok {
			node, ok = memoryNodes[d.host]
		}
		if !ok {
			b.doubt("asked.devices "+d.host, "only the host knows the node's number, mode and owner (--node states them)", "")
			continue
		}
		nodes = append(nodes, object{"path": d.path, "type": node.kind, "major": node.major, "minor": node.minor, "fileMode": node.mode, "uid": node.uid, "gid": node.gid})
		rules = append(rules, object{"allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": d.access})
	}
	for _, text := range b.c.DeviceRules {
		parts := deviceRule.FindStringSubmatch(text)
		if parts == nil {
			return nil, nil, fmt.Errorf("device rule %q must be TYPE MAJOR:MINOR ACCESS, such as \"c 10:200 rwm\"", text)
		}
		rule := object{"allow": true, "type": parts[1], "access": parts[4]}
		for i, name := range []string{"major", "minor"} {
			if parts[2+i] == "*" {
				continue
			}
			n, err := strconv.ParseUint(parts[2+i], 10, 32)
			if err != nil {
				return nil, nil, fmt.Errorf("device rule %q: a number must have at most 32 bits", text)
			}
			rule[name] = n
		}
		rules = append(rules, rule)
	}
	return nodes, rules, nil
}

func ruleOf(r launch.DeviceRule) object {
	out := object{"allow": r.Allow, "type": r.Type, "access": r.Access}
	if r.Major != nil {
		out["major"] = int64(*r.Major)
	}
	if r.Minor != nil {
		out["minor"] = int64(*r.Minor)
	}
	return out
}

// ParseNode reads TYPE:MAJOR:MINOR:MODE:UID:GID, the mode in octal.
func ParseNode(text string) (Node, error) {
	parts := strings.Split(text, ":")
	var n [5]uint64
	ok := len(parts) == 6 && (parts[0] == "c" || parts[0] == "b")
	for i := 0; ok && i < 5; i++ {
		base := 10
		if i == 2 {
			base = 8
		}
		var err error
		n[i], err = strconv.ParseUint(parts[1+i], base, 31)
		ok = err == nil
	}
	if !ok {
		return Node{}, fmt.Errorf("a device node %q must be TYPE:MAJOR:MINOR:MODE:UID:GID, such as c:10:229:666:0:0", text)
	}
	return Node{parts[0], int64(n[0]), int64(n[1]), uint32(n[2]), uint32(n[3]), uint32(n[4])}, nil
}
