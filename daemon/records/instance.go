package records

import (
	"fmt"
	"strings"
)

// InstanceID is the name in the runtime log of an instance: this writing of the
// record, and the inode of the cgroup; 0 if it was measured at the gate, before there
// was a cgroup.
func (r Record) InstanceID(inode uint64) string {
	return fmt.Sprintf("%s/%x", r.Stamp, inode)
}

// Wrote reports whether an instance in the runtime log is of this writing of the record.
func (r Record) Wrote(instance string) bool {
	return strings.HasPrefix(instance, strings.TrimSuffix(r.InstanceID(0), "0"))
}

// StartKey names this writing of the record, or the bundle of a record that can't be
// read.
func (r Record) StartKey() string {
	if r.Err != nil {
		return r.Bundle
	}
	return r.InstanceID(0)
}
