package logs

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// maxTracked bounds the containers followed at once, and the cgroup paths
// remembered for them.
const maxTracked = 4096

// IMATail follows the kernel's IMA log as it grows: each entry is read once,
// and registers run along, so that a query costs nothing in the length of the
// log. It is safe for concurrent use.
type IMATail struct {
	mu        sync.Mutex
	count     io.ReaderAt
	seen      int64 // the kernel's count when the log was last read to its end
	read      bool
	reader    IMAReader
	registers []*IMARegister
	failed    error
	onEntry   func(*IMAEntry)

	tracked map[string]*ContainerSum // by declared cgroup path
	owner   map[string]*ContainerSum // of paths met, nil for no one's
}

// NewIMATail follows log, an open {ascii,binary}_runtime_measurements (better
// binary: names can hold newlines), with count its runtime_measurements_count, nil to do without. Both are in
// /sys/kernel/security/integrity/ima and stay open as long as the tail lives:
// the kernel walks its list from the head for whoever opens the log anew.
// Registers, if any, are extended by each entry; onEntry, if not nil, sees each
// one, and must not call the tail.
func NewIMATail(log io.Reader, count io.ReaderAt, onEntry func(*IMAEntry), registers ...*IMARegister) *IMATail {
	return &IMATail{
		count: count, reader: IMAReader{src: log}, onEntry: onEntry, registers: registers,
		tracked: map[string]*ContainerSum{}, owner: map[string]*ContainerSum{},
	}
}

// Update reads what is new and says how many entries that was.
func (t *IMATail) Update() (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.update()
}

func (t *IMATail) update() (int64, error) {
	var now int64
	if t.count != nil {
		var err error
		if now, err = readCount(t.count); err != nil {
			return 0, err
		}
		if t.read && now == t.seen {
			return 0, nil
		}
	}
	before := t.reader.Entries
	for {
		e, err := t.reader.Next()
		if err == io.EOF {
			t.seen, t.read = now, true
			return t.reader.Entries - before, nil
		}
		if err != nil {
			return t.reader.Entries - before, fmt.Errorf("IMA log: %w", err)
		}
		t.add(e)
	}
}

func (t *IMATail) add(e *IMAEntry) {
	for _, g := range t.registers {
		if err := g.Extend(e); err != nil && t.failed == nil {
			t.failed = fmt.Errorf("IMA log: entry %d: %w", t.reader.Entries-1, err)
		}
	}
	if len(t.tracked) > 0 {
		if path, ok := e.CgroupPath(); ok {
			if sum := t.ownerOf(path); sum != nil {
				sum.add(e)
			}
		}
	}
	if t.onEntry != nil {
		t.onEntry(e)
	}
}

// ownerOf is the container with the longest tracked path at or above path:
// a container's cgroup may be declared below another's.
func (t *IMATail) ownerOf(path []byte) *ContainerSum {
	if sum, ok := t.owner[string(path)]; ok {
		return sum
	}
	var sum *ContainerSum
	for p := string(path); p != "" && sum == nil; {
		sum = t.tracked[p]
		p = p[:max(strings.LastIndexByte(p, '/'), 0)]
	}
	if len(t.owner) >= maxTracked {
		clear(t.owner)
	}
	t.owner[string(path)] = sum
	return sum
}

// Track begins a register for the container whose declared cgroup path this
// is: entries of that cgroup and those below it count from here on, save where a
// longer tracked path claims them. Entries that were read before don't: see
// ReplayContainer.
func (t *IMATail) Track(cgroupPath string) error {
	path := kernelPath(cgroupPath)
	if path == "" {
		return fmt.Errorf("cgroup path %q is no container's", cgroupPath)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.tracked[path]; ok {
		return nil
	}
	if len(t.tracked) >= maxTracked {
		return fmt.Errorf("%d containers are tracked already", maxTracked)
	}
	t.tracked[path] = &ContainerSum{}
	clear(t.owner)
	return nil
}

// Untrack forgets a container.
func (t *IMATail) Untrack(cgroupPath string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tracked, kernelPath(cgroupPath))
	clear(t.owner)
}

// Container brings the tail up to date and gives a tracked container's
// register, false where the path isn't tracked.
func (t *IMATail) Container(cgroupPath string) (ContainerSum, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.update(); err != nil {
		return ContainerSum{}, false, err
	}
	sum, ok := t.tracked[kernelPath(cgroupPath)]
	if !ok {
		return ContainerSum{}, false, nil
	}
	return *sum, true, nil
}

// Registers are the values of the registers that NewIMATail was given, at the
// last entry read. After an entry that could not be replayed they mean
// nothing: the error says which.
func (t *IMATail) Registers() ([][]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	values := make([][]byte, len(t.registers))
	for i, g := range t.registers {
		values[i] = g.Value()
	}
	return values, t.failed
}

// TailStatus is what a tail has read.
type TailStatus struct {
	Entries, Violations, Skipped int64
	LastSkip                     error
}

// Status tells what was read so far.
func (t *IMATail) Status() TailStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TailStatus{t.reader.Entries, t.reader.Violations, t.reader.Skipped, t.reader.LastSkip()}
}

// kernelPath is a cgroup path as the kernel's templates write it.
func kernelPath(path string) string {
	return strings.ReplaceAll(strings.TrimRight(path, "/"), " ", "_")
}

func readCount(r io.ReaderAt) (int64, error) {
	var b [32]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("IMA measurement count: %w", err)
	}
	count, err := strconv.ParseInt(string(bytes.TrimSpace(b[:n])), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("IMA measurement count: %.32q is no number", b[:n])
	}
	return count, nil
}

// ReplayContainer computes one container's register over a whole log. Cgroups
// at or below one of others, paths declared by other containers, are left out
// where they lie below this one's.
func ReplayContainer(log io.Reader, cgroupPath string, others ...string) (ContainerSum, error) {
	t := NewIMATail(log, nil, nil)
	t.reader.final = true
	for _, path := range append(others, cgroupPath) {
		if err := t.Track(path); err != nil {
			return ContainerSum{}, err
		}
	}
	sum, _, err := t.Container(cgroupPath)
	return sum, err
}
