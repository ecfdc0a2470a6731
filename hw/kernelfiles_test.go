package hw_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/cima-project/cima/hw"
)

// files is the boundary between package hw and that kernel.
type files struct {
	hw.Files
	k *kernel
}

// attribute reports whether path is in configfs, and in which entry and file.
func (f *files) attribute(path string) (name, attr string, ok bool) {
	rest, ok := strings.CutPrefix(path, f.k.path("sys/kernel/config/tsm/report")+"/")
	name, attr, _ = strings.Cut(rest, "/")
	return name, attr, ok
}

func (f *files) Access(path string, write bool) error {
	if path == f.k.path(f.k.denied) {
		return syscall.EACCES
	}
	return f.Files.Access(path, write)
}

func (f *files) Mkdir(path string) error {
	name, _, _ := f.attribute(path)
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	if err := f.k.fail["mkdir"]; err != nil {
		return err
	}
	if f.k.provider == "" {
		return syscall.ENXIO
	}
	if f.k.entries[name] != nil {
		return syscall.EEXIST
	}
	f.k.entries[name] = &entry{}
	return nil
}

func (f *files) Remove(path string) error {
	name, _, _ := f.attribute(path)
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	if f.k.entries[name] == nil {
		return syscall.ENOENT
	}
	delete(f.k.entries, name)
	return nil
}

func (f *files) List(path string, limit int) ([]string, error) {
	if path != f.k.path("sys/kernel/config/tsm/report") {
		return f.Files.List(path, limit)
	}
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	var names []string
	for name := range f.k.entries {
		names = append(names, name)
	}
	return names, nil
}

func (f *files) Write(path string, data []byte) (int, error) {
	name, attr, ok := f.attribute(path)
	if !ok {
		return f.k.extend(f.Files, path, data)
	}
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	e := f.k.entries[name]
	if err := f.k.fail["write "+attr]; err != nil {
		return 0, err
	}
	if e == nil || attr != "inblob" {
		return 0, syscall.EACCES
	}
	e.in = append([]byte(nil), data...)
	e.generation++
	return len(data), nil
}

// extend is a write to rtmr3:sha384: 48 bytes. Only such a write refreshes the
// cache behind the file.
func (k *kernel) extend(real hw.Files, path string, data []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fail["write rtmr3"]; err != nil {
		return 0, err
	}
	if err := real.Access(path, false); err != nil {
		return 0, err
	}
	if len(data) != 48 {
		return 0, syscall.EINVAL
	}
	if err := k.machine.Extend(context.Background(), hw.Digest(data)); err != nil {
		var e *hw.Error
		errors.As(err, &e)
		return 0, e.Errno
	}
	now, err := k.machine.Registers(context.Background())
	if err != nil {
		return 0, err
	}
	return real.Write(path, now.RTMR[3][:])
}

func (f *files) Read(path string, limit int) ([]byte, error) {
	name, attr, ok := f.attribute(path)
	if !ok {
		return f.Files.Read(path, limit)
	}
	f.k.mu.Lock()
	e := f.k.entries[name]
	err := f.k.fail["read "+attr]
	provider, lapped := f.k.provider, f.k.lapped
	f.k.mu.Unlock()
	switch {
	case e == nil:
		return nil, syscall.ENOENT
	case err != nil:
		return nil, err
	case attr == "provider":
		return []byte(provider + "\n"), nil
	case attr == "generation":
		return fmt.Appendf(nil, "%d\n", e.generation), nil
	case attr != "outblob":
		return nil, syscall.ENOENT
	case len(e.in) != 64:
		return nil, syscall.EINVAL
	}
	if lapped {
		e.generation++
	}
	raw, err := f.k.quote(hw.ReportData(e.in))
	if len(raw) > limit {
		return nil, syscall.EFBIG
	}
	return raw, err
}

// quote plays the driver, which refuses a second quote while one is in
// progress.
func (k *kernel) quote(data hw.ReportData) ([]byte, error) {
	k.mu.Lock()
	k.inFlight++
	k.most = max(k.most, k.inFlight)
	busy, finish, reshape := k.inFlight > 1, k.finish, k.reshape
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.inFlight--
		k.made++
		k.mu.Unlock()
	}()
	if busy {
		return nil, syscall.EBUSY
	}
	registers, err := k.machine.Registers(context.Background())
	if err != nil {
		return nil, err
	}
	if finish != nil {
		<-finish
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	_, mask, _ := strings.Cut(string(status), "SigBlk:\t")
	k.mu.Lock()
	k.blocked, _, _ = strings.Cut(mask, "\n")
	k.mu.Unlock()
	raw, err := k.machine.Sign(registers, data)
	if reshape != nil {
		raw = reshape(raw)
	}
	return raw, err
}
