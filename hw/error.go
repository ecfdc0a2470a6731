package hw

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Causes of an Error, for errors.Is.
var (
	// ErrUnsupported says that this kernel has no interface for what was
	// asked; before Linux 6.16 no register can be extended from user space.
	ErrUnsupported = errors.New("not supported by this kernel")

	// ErrBusy says that the interface is in use: the same call can succeed
	// a moment later.
	ErrBusy = errors.New("busy")

	// ErrMalformed says that the hardware or its service answered with
	// bytes that can't be what was asked for.
	ErrMalformed = errors.New("malformed answer")
)

// Operations that an Error names.
const (
	OpQuote     = "quote"
	OpReport    = "tdreport"
	OpRegisters = "registers"
	OpExtend    = "extend"
	OpBootLog   = "boot log"
	OpBootID    = "boot id"
)

// Error is a failure of an interface of the hardware: what was tried, where,
// what the kernel answered, and what can be done about it.
type Error struct {
	Op     string        // one of the operations above
	Path   string        // a file, a device or a socket
	Errno  syscall.Errno // 0 where no system call failed
	Err    error         // the cause
	Advice string        // a sentence, may be empty
}

// NewError makes an Error of err, with the errno that err holds and the advice
// on it. Of errors of package os it keeps the cause alone, because Path names the
// file. An err that is an *Error is returned as it is.
func NewError(op, path string, err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := &Error{Op: op, Path: path, Err: err}
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		e.Err = inner.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		e.Errno = errno
	}
	e.Advice = advice(op, e.Errno)
	return e
}

// Error is "op: path: cause (advice)".
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.Op)
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	fmt.Fprint(&b, e.Err)
	if e.Advice != "" {
		fmt.Fprintf(&b, " (%s)", e.Advice)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the meaning of the errno, also where the cause does not name it.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrBusy:
		return e.Errno == syscall.EBUSY || e.Errno == syscall.EAGAIN
	case ErrUnsupported:
		return e.Errno == syscall.ENXIO && e.Op == OpQuote || e.Errno == syscall.ENOTTY || e.Errno == syscall.EOPNOTSUPP
	}
	return e.Errno != 0 && errors.Is(e.Errno, target) // also fs.ErrPermission and its like
}

// As finds the syscall.Errno also where the cause is not a system call's error.
func (e *Error) As(target any) bool {
	errno, ok := target.(*syscall.Errno)
	if ok && e.Errno != 0 {
		*errno = e.Errno
		return true
	}
	return false
}

// advice is a sentence for each errno that the interfaces document (kernel,
// Documentation/ABI/testing: configfs-tsm-report,
// sysfs-devices-virtual-misc-tdx_guest; linux/tdx-guest.h).
func advice(op string, errno syscall.Errno) string {
	switch errno {
	case 0:
		return ""
	case syscall.EACCES, syscall.EPERM:
		return "run as root, and see that the unit's sandbox leaves this path writable"
	case syscall.ENOENT:
		return "run cimactl doctor: it says which module, mount or kernel is missing"
	case syscall.ENOSPC, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		return "the machine is short of memory or descriptors; try again when it is not"
	case syscall.ECONNREFUSED, syscall.ENODEV, syscall.ECONNRESET, syscall.EPIPE:
		return "the host's quote generation service does not answer; ask who runs the host"
	}
	switch op {
	case OpQuote, OpReport:
		return adviceQuote(errno)
	case OpExtend:
		return adviceExtend(errno)
	}
	return ""
}

func adviceQuote(errno syscall.Errno) string {
	switch errno {
	case syscall.EBUSY, syscall.EAGAIN:
		return "another quote is in flight, or was interrupted and still is; try again in a second"
	case syscall.EINVAL:
		return "the driver refused the report data; this is a bug of cima or of the kernel: please report it"
	case syscall.EFBIG:
		return "the quote is longer than the kernel's buffer; the kernel is too old for this host"
	case syscall.ENXIO:
		return "no provider of reports: load the module tdx_guest, and see that this machine is a TD"
	case syscall.ETIMEDOUT:
		return "the host did not answer within the kernel's 30 s; see its quote generation service"
	case syscall.EIO:
		return "the host refused or failed to make the quote; see its quote generation service"
	case syscall.EINTR:
		return "the call was interrupted; try again in a second"
	}
	return ""
}

func adviceExtend(errno syscall.Errno) string {
	switch errno {
	case syscall.EBUSY, syscall.EAGAIN:
		return "the register is in use; read it, then try again"
	case syscall.EINVAL:
		return "the kernel takes exactly 48 bytes at offset 0; this is a bug of cima or of the kernel: please report it"
	case syscall.ENXIO:
		return "the TDX module refused the operand; this is a bug of cima or of the kernel: please report it"
	case syscall.EIO:
		return "the TDX module failed; read the register to know whether the extend happened"
	case syscall.EINTR:
		return "interrupted before the register was touched; read it, then try again"
	}
	return ""
}
