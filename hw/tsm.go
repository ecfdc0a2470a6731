//go:build linux

package hw

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Quotes by configfs-tsm (kernel, Documentation/ABI/testing/configfs-tsm-report).

// Providers: the outblob of one is a TDX quote, of the other an SNP report, with the
// certificates that the host has in its auxblob.
const (
	providerTDX = "tdx_guest"
	providerSNP = "sev_guest"
)

// entryPrefix begins the name of this package's entries; the process id follows.
const entryPrefix = "cima-"

// answer is what the driver gave for one quote.
type answer struct {
	raw []byte
	err error
}

// quoteTSM makes a quote over data. Callers take turns, since the driver can
// make one quote at a time. A caller whose ctx ends stops waiting; the quote
// itself goes on to its end, because a driver that is interrupted leaves its
// buffer with the host and refuses the next quotes with EBUSY.
func (t *TDX) quoteTSM(ctx context.Context, data ReportData) ([]byte, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, NewError(OpQuote, t.reports(), fmt.Errorf("gave up waiting for a turn: %w", ctx.Err()))
	}
	answered := make(chan answer, 1)
	withoutSignals(func() {
		defer func() { <-t.turn }()
		raw, err := t.makeQuote(data)
		answered <- answer{raw, err}
	})
	select {
	case a := <-answered:
		return a.raw, a.err
	case <-ctx.Done():
		return nil, NewError(OpQuote, t.reports(), fmt.Errorf("abandoned while the host makes it: %w", ctx.Err()))
	}
}

// Drain waits until no quote is in the making, so that a process that ends does
// not interrupt one. No quote begins before it returns. Its error is ctx's.
func (t *TDX) Drain(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		<-t.turn
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withoutSignals runs f on a thread of its own that gets no signals: Go's
// runtime sends some to its threads, and the process may get others.
func withoutSignals(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		var most unix.Sigset_t
		for signal := 1; signal <= 64; signal++ {
			switch syscall.Signal(signal) {
			case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP:
				continue // the thread itself causes these
			}
			word := 8 * int(unsafe.Sizeof(most.Val[0]))
			most.Val[(signal-1)/word] |= 1 << ((signal - 1) % word)
		}
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, &most, nil)
		f()
	}()
}

// makeQuote makes one quote through a fresh entry of its own, and removes the entry.
func (t *TDX) makeQuote(data ReportData) (raw []byte, err error) {
	t.sweep.Do(t.removeDeadEntries)
	entry := filepath.Join(t.reports(), entryPrefix+strconv.Itoa(os.Getpid())+"-"+rand.Text())
	if err := t.files.Mkdir(entry); err != nil {
		return nil, NewError(OpQuote, t.reports(), err)
	}
	defer func() {
		if failed := t.files.Remove(entry); failed != nil && err == nil {
			err = NewError(OpQuote, entry, fmt.Errorf("remove the entry: %w", failed))
		}
	}()
	attr := func(name string) string { return filepath.Join(entry, name) }

	provider, err := t.files.Read(attr("provider"), 64)
	if err != nil {
		return nil, NewError(OpQuote, attr("provider"), err)
	}
	if name := strings.TrimSpace(string(provider)); name != t.provider {
		return nil, &Error{Op: OpQuote, Path: attr("provider"), Err: fmt.Errorf("%w: reports come from %q, not %q", ErrUnsupported, name, t.provider), Advice: "run cimactl doctor: it says which platform this machine is"}
	}
	before, err := t.generation(attr("generation"))
	if err != nil {
		return nil, err
	}
	if n, err := t.files.Write(attr("inblob"), data[:]); err != nil || n != len(data) {
		return nil, NewError(OpQuote, attr("inblob"), wrote(n, len(data), err))
	}
	raw, err = t.files.Read(attr("outblob"), maxQuote)
	if err != nil {
		return nil, NewError(OpQuote, attr("outblob"), err)
	}
	if t.provider == providerSNP {
		table, err := t.files.Read(attr("auxblob"), maxCertificates)
		if err != nil {
			return nil, NewError(OpQuote, attr("auxblob"), err)
		}
		raw = append(raw, table...)
	}
	after, err := t.generation(attr("generation"))
	if err != nil {
		return nil, err
	}
	if after != before+1 {
		return nil, &Error{Op: OpQuote, Path: attr("generation"), Errno: syscall.EBUSY,
			Err:    fmt.Errorf("%w: generation went from %d to %d with one write of ours", ErrBusy, before, after),
			Advice: "somebody else writes to the entry; see who on this machine has root"}
	}
	return raw, nil
}

func (t *TDX) generation(path string) (uint64, error) {
	text, err := t.files.Read(path, 64)
	if err != nil {
		return 0, NewError(OpQuote, path, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, NewError(OpQuote, path, fmt.Errorf("%w: generation %q", ErrMalformed, text))
	}
	return n, nil
}

// removeDeadEntries removes the entries of processes that were killed while they made a quote.
func (t *TDX) removeDeadEntries() {
	names, err := t.files.List(t.reports(), 1024)
	if err != nil {
		return
	}
	for _, name := range names {
		rest, ours := strings.CutPrefix(name, entryPrefix)
		pid, _, named := strings.Cut(rest, "-")
		if n, err := strconv.ParseUint(pid, 10, 31); !ours || !named || err != nil || n == 0 {
			continue
		}
		if t.files.Access(t.proc(pid), false) == error(syscall.ENOENT) {
			_ = t.files.Remove(filepath.Join(t.reports(), name))
		}
	}
}

// wrote is the error of a write that did not take all of its bytes at once.
func wrote(n, want int, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: the kernel took %d of %d bytes", ErrMalformed, n, want)
}
