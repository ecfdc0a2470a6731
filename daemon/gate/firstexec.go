package gate

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// HoldFirst holds the processes that execute files of the root file system at dir too,
// until LetFirst. It is for a container that a runtime makes and starts with one
// command: its first exec is the last moment before its first instruction. The root
// file system must be as Roots.Add wants it. HoldFirst returns its device.
func (r *Runtimes) HoldFirst(dir string) (device uint64, err error) {
	root, err := openRoot(r.gate.options.HostRoot, dir)
	if err != nil {
		return 0, err
	}
	defer unix.Close(root.fd)
	r.mu.Lock()
	r.firsts[root.device] = true
	r.mu.Unlock()
	if err := r.gate.mark(root.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM); err != nil {
		r.forget(root.device)
		return 0, err
	}
	return root.device, nil
}

// LetFirst ends what HoldFirst began on the root file system of the file that a held
// process executes.
func (r *Runtimes) LetFirst(h *HeldExec) error {
	r.forget(h.Device())
	return r.gate.mark(h.fd, unix.FAN_MARK_REMOVE|unix.FAN_MARK_FILESYSTEM)
}

func (r *Runtimes) forget(device uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.firsts, device)
}

// awaits reports whether the first exec on a device is held.
func (r *Runtimes) awaits(device uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.firsts[device]
}

// IsHeld reports whether the process still waits in execve(2), whatever this gate
// answered: it runs no program of the file system of the file that it executes.
func (h *HeldExec) IsHeld() bool {
	if _, err := h.argv(); err != nil {
		return false
	}
	runs, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/exe", h.PID))
	return err == nil && runs.Device != h.Device() && procfs.Alive(h.PIDFD) == nil
}
