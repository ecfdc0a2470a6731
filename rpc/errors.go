package rpc

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/cima-project/cima/logs/canonical"
)

// Code is the code of an error on the wire.
type Code int

// Codes of JSON-RPC 2.0 (section 5.1).
const (
	CodeParseError     Code = -32700
	CodeInvalidRequest Code = -32600
	CodeMethodNotFound Code = -32601
	CodeInvalidParams  Code = -32602
	CodeInternalError  Code = -32603
)

// Codes of this protocol (cima-api(7), ERRORS).
const (
	CodeUnattributed    Code = -32001 // kernel and records name no caller, or contradict each other
	CodeDenied          Code = -32002 // the caller is known and may not do this
	CodeRateLimited     Code = -32003 // try again after retry_after_ms
	CodeTEEUnavailable  Code = -32004 // the hardware did not answer; errno says what the kernel said
	CodeTooLarge        Code = -32005 // a line, a parameter or a reply above its limit
	CodeLogInconsistent Code = -32006 // log and register disagree: no evidence until the next boot
	CodeShuttingDown    Code = -32007 // the daemon stops: connect again
	CodeNotReady        Code = -32008 // try again: something is not known yet
)

// Error is an error on the wire. Handlers return it, and the client's calls do.
type Error struct {
	_ canonical.Open

	Code    Code       `json:"code"`
	Message string     `json:"message"` // what happened and what to do
	Data    *ErrorData `json:"data,omitzero"`

	cause error // for the journal; never on the wire
}

// ErrorData is the data object of an error. Its code decides which member is there.
type ErrorData struct {
	_ canonical.Open

	RetryAfterMS int64  `json:"retry_after_ms,omitzero"` // rate limited, not ready
	Errno        string `json:"errno,omitempty"`         // TEE unavailable: the kernel's, as "EBUSY"
	Member       string `json:"member,omitempty"`        // invalid params: the member that is wrong
	Limit        int64  `json:"limit,omitzero"`          // too large: what would have been accepted
	Agreed       *int   `json:"agreed,omitzero"`         // log inconsistent: events up to the last agreement
}

// Error is the message as a person reads it.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, if the error was made of one in this process.
func (e *Error) Unwrap() error { return e.cause }

// RetryAfter is how long to wait before the same request can succeed, 0 if the error
// does not say.
func (e *Error) RetryAfter() time.Duration {
	if e.Data == nil {
		return 0
	}
	return time.Duration(e.Data.RetryAfterMS) * time.Millisecond
}

// Because returns the error with a cause, which goes to the journal and not to the
// caller.
func (e *Error) Because(cause error) *Error {
	with := *e
	with.cause = cause
	return &with
}

// Errorf makes an error of any code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Unattributed means that nobody can tell who is calling.
func Unattributed(format string, args ...any) *Error {
	return Errorf(CodeUnattributed, format, args...)
}

// Denied means that the caller may not do this.
func Denied(format string, args ...any) *Error {
	return Errorf(CodeDenied, format, args...)
}

// RateLimited means that the caller asks too much, and tells when to ask again.
func RateLimited(after time.Duration, format string, args ...any) *Error {
	return retry(CodeRateLimited, after, format, args...)
}

// TEEUnavailable means that the hardware did not answer. The kernel's error number in
// cause, if there is one, goes onto the wire; the rest of cause is for the journal.
func TEEUnavailable(cause error, format string, args ...any) *Error {
	e := Errorf(CodeTEEUnavailable, format, args...).Because(cause)
	var number syscall.Errno
	if errors.As(cause, &number) {
		name := errnoName(number)
		if name == "" {
			name = fmt.Sprint(int(number))
		}
		e.Data = &ErrorData{Errno: name}
	}
	return e
}

// TooLarge means that something is above its limit; limit is in the unit of that.
func TooLarge(limit int64, format string, args ...any) *Error {
	e := Errorf(CodeTooLarge, format, args...)
	e.Data = &ErrorData{Limit: limit}
	return e
}

// LogInconsistent means that log and register disagree after agreed events.
func LogInconsistent(agreed int, format string, args ...any) *Error {
	e := Errorf(CodeLogInconsistent, format, args...)
	e.Data = &ErrorData{Agreed: &agreed}
	return e
}

// ShuttingDown means that the daemon stops.
func ShuttingDown() *Error {
	return Errorf(CodeShuttingDown, "the daemon is shutting down: connect again")
}

// NotReady means that something is not known yet, and tells when to ask again.
func NotReady(after time.Duration, format string, args ...any) *Error {
	return retry(CodeNotReady, after, format, args...)
}

// InvalidParams tells which member of the parameters is wrong, and why; member is ""
// if it is none in particular.
func InvalidParams(member, format string, args ...any) *Error {
	e := Errorf(CodeInvalidParams, format, args...)
	if member != "" {
		e.Data = &ErrorData{Member: member}
	}
	return e
}

func retry(code Code, after time.Duration, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	// A wait below a millisecond is still a wait.
	e.Data = &ErrorData{RetryAfterMS: max(1, after.Milliseconds())}
	return e
}

// WireError returns what a caller gets of err: the *Error in it, else an error with
// CodeInternalError that reveals nothing. false means that err holds more than the
// caller gets and belongs in the journal.
func WireError(err error) (*Error, bool) {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e, e.Code != CodeInternalError
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(CodeInternalError, "the daemon took too long: try again"), false
	case errors.Is(err, context.Canceled):
		// The caller has gone, or the daemon stops.
		return ShuttingDown(), true
	}
	return Errorf(CodeInternalError, "internal error of the daemon: its journal says more"), false
}
