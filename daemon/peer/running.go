package peer

import (
	"context"
	"fmt"
)

// Running describes a container that runs.
type Running struct {
	CgroupInode uint64 // as Caller.CgroupInode
	CgroupOwner uint32 // as Caller.CgroupOwner
}

// Running checks a record against the kernel as Identify does: the container's first
// process lives and is in the cgroup that the record declares. An error wraps
// ErrUnattributed, or is the context's.
func (id *Identifier) Running(ctx context.Context, c Container) (Running, error) {
	f, err := id.initProcess(ctx, c)
	if err != nil {
		return Running{}, err
	}
	defer f.release()
	s, err := walk(f.root, f.path)
	if err == nil && s.inode != f.cgroupInode {
		err = fmt.Errorf("cgroup %q: %w", f.path, errSwapped)
	}
	if err != nil {
		return Running{}, refuse(err, "its container's cgroup was removed or replaced")
	}
	return Running{CgroupInode: s.inode, CgroupOwner: s.chargedTo(f.unified)}, nil
}
