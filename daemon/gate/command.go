package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Bounds of what is read of the memory of a held process.
const (
	maxArguments     = 256
	maxArgumentBytes = 64 << 10 // of all arguments
	maxThreads       = 1024
)

var (
	errUntrusted = errors.New("its arguments are not trusted: it is not of the host's root, outside containers")
	errNoExec    = errors.New("no thread of it is known to be in execve")
)

// Command is what a runtime was told to do. The zero value says nothing.
type Command struct {
	Name      string   // "create", "start", "state", …
	Arguments []string // behind it, as they are
	Root      string   // where the runtime keeps its state; "": by default

	// Strange says that there is an option by which the runtime may make the container
	// otherwise than its bundle says, and which leaves no trace in its first process.
	Strange bool
}

// Names reports whether an argument is this container's id.
func (c Command) Names(id string) bool { return slices.Contains(c.Arguments, id) }

// KeepsIn reports whether the runtime keeps a container's state in this directory, as
// far as it was told. Two containers may have one id, below two roots.
func (c Command) KeepsIn(stateDir string) bool {
	root := path.Dir(stateDir)
	if c.Root == "" {
		return path.Dir(root) == "/run" // /run/runc, /run/crun
	}
	return root == path.Clean(c.Root)
}

// Command returns what the runtime that the process is about to execute was told to
// do: from the arguments of its execve(2), which the kernel holds. The zero Command
// says that this is not known: the process is not of the host's root, or the
// arguments can't be read or understood. The process's program could change its
// arguments meanwhile, so only the host's root is believed.
func (h *HeldExec) Command() Command {
	h.commandOnce.Do(func() {
		if args, err := h.arguments(); err == nil {
			h.command = parseCommand(args)
		}
	})
	return h.command
}

// arguments reads argv of the execve(2) in which a process is held: pointers and
// strings from its memory, which is its parent's where it was made by vfork(2).
func (h *HeldExec) arguments() ([]string, error) {
	uid, err := procfs.EffectiveUID(h.PID)
	if err != nil || uid != 0 || h.payer.device != 0 {
		return nil, errors.Join(errUntrusted, err)
	}
	argv, err := h.argv()
	if err != nil {
		return nil, err
	}
	memory, err := procfs.OpenMemory(h.PID)
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	args, err := readArguments(memory, argv)
	if err != nil {
		return nil, fmt.Errorf("arguments of process %d: %w", h.PID, err)
	}
	return args, procfs.Alive(h.PIDFD) // after the reads: they were of this process
}

// argv finds the thread that executes a program, and returns the pointer that it gave
// to the kernel. Two such threads leave it open which one is held.
func (h *HeldExec) argv() (uint64, error) {
	threads, err := procfs.Threads(h.PID, maxThreads)
	if err != nil {
		return 0, err
	}
	found := []uint64{}
	for _, thread := range threads {
		call, err := procfs.BlockedIn(h.PID, thread)
		switch {
		case err != nil:
		case call.Number == unix.SYS_EXECVE:
			found = append(found, call.Arguments[1])
		case call.Number == unix.SYS_EXECVEAT:
			found = append(found, call.Arguments[2])
		}
	}
	if len(found) != 1 {
		return 0, errNoExec
	}
	return found[0], nil
}

func readArguments(memory procfs.Memory, argv uint64) (args []string, err error) {
	left := maxArgumentBytes
	for {
		var pointer [8]byte
		if err := memory.Read(argv+8*uint64(len(args)), pointer[:]); err != nil {
			return nil, err
		}
		at := binary.NativeEndian.Uint64(pointer[:])
		if at == 0 {
			return args, nil
		}
		if len(args) == maxArguments {
			return nil, fmt.Errorf("there are more than %d", maxArguments)
		}
		text, err := memory.String(at, left)
		if err != nil {
			return nil, err
		}
		left -= len(text)
		args = append(args, text)
	}
}

// Global flags of runc, crun and youki, without dashes: those that take a value, and
// those that take none.
var (
	valueFlags = []string{"cgroup-manager", "criu", "l", "log", "log-format", "log-level", "r", "root", "rootless"}
	plainFlags = []string{"d", "debug", "s", "systemd-cgroup"}
)

// Options of create, run and restore that take a value, and those that take none. What they change
// is nothing of the container, or its first process shows it (preserve-fds). Not among them
// are no-pivot, no-new-keyring (it has the session keyring of its engine) and crun's config
// (another file than the bundle's).
var (
	valueOptions = []string{"b", "bundle", "console-socket", "pid-file", "pidfd-socket", "preserve-fds"}
	plainOptions = []string{"d", "detach", "keep", "no-subreaper"}
)

// isStrange reports whether there are other options among the arguments of create, run
// or restore. What is restored is not what the bundle says either.
func isStrange(args []string) bool {
	for i := 0; i < len(args); i++ {
		flag, ok := strings.CutPrefix(args[i], "-")
		name, _, hasValue := strings.Cut(strings.TrimPrefix(flag, "-"), "=")
		switch {
		case !ok:
		case slices.Contains(valueOptions, name):
			if !hasValue {
				i++
			}
		case !slices.Contains(plainOptions, name):
			return true
		}
	}
	return false
}

// parseCommand finds the command behind a runtime's global flags. Behind a flag that
// is not known nothing is known.
func parseCommand(args []string) Command {
	root, strange := "", false
	for i := 1; i < len(args); i++ {
		flag := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		name, value, hasValue := strings.Cut(flag, "=")
		switch {
		case flag == args[i] && flag != "":
			makes := flag == "create" || flag == "run" || flag == "restore"
			return Command{flag, args[i+1:], root, makes && (strange || isStrange(args[i+1:]))}
		case slices.Contains(valueFlags, flag) && i+1 < len(args):
			i++
			value = args[i]
		case slices.Contains([]string{"h", "help", "v", "version"}, flag):
			return Command{} // it makes nothing
		case !slices.Contains(plainFlags, flag) && !hasValue:
			return Command{Strange: true}
		case !slices.Contains(plainFlags, name) && !slices.Contains(valueFlags, name):
			strange = true
		}
		if name == "root" || name == "r" {
			root = value
		}
	}
	return Command{}
}
