// Package command answers: how does a command of cimactl read, print and fail?
//
// Every verb, in whichever package it lives, uses it, so that they do it alike.
package command

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cima-project/cima/rpc"
)

// Exit codes (cimactl(1), EXIT STATUS). Those of an appraisal are in verify.Verdict.
const (
	Failed    = 1 // the tool, the daemon or the arguments
	Disagrees = 2 // not authentic; or a log and a register differ
	Network   = 3
	NotMet    = 4 // authentic, and not what the policy wants
	Malformed = 5
	Unknown   = 6 // only the engine or its host knows
)

// Failure is an error with an exit code and a hint.
type Failure struct {
	Err  error
	Code int
	Hint string
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Hinted adds a hint to an error.
func Hinted(err error, hint string, args ...any) error {
	return &Failure{Err: err, Code: Failed, Hint: fmt.Sprintf(hint, args...)}
}

// Exit ends the program with a code and no message: stdout has all of it.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Report prints what went wrong, and says with which code the program ends.
func Report(stderr io.Writer, err error) int {
	var exit Exit
	if err == nil {
		return 0
	} else if errors.As(err, &exit) {
		return int(exit)
	}
	code, hint := Failed, ""
	var f *Failure
	var wire *rpc.Error
	var away *rpc.UnreachableError
	switch {
	case errors.As(err, &f):
		code, hint = f.Code, f.Hint
	case errors.As(err, &wire):
		hint = wireHint(wire)
	case errors.As(err, &away):
		hint = away.Hint
	}
	text := err.Error()
	if errors.As(err, &away) {
		text = strings.TrimSuffix(text, "; hint: "+away.Hint) // the hint has a line of its own
	}
	stderr = Coloured(stderr)
	fmt.Fprintf(stderr, "cimactl: %s\n", text)
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return code
}

// wireHint says what a person can do about an error of the daemon.
func wireHint(e *rpc.Error) string {
	switch e.Code {
	case rpc.CodeMethodNotFound:
		return "cima-api(7) lists the methods, and which of them are on the admin socket alone"
	case rpc.CodeInvalidParams:
		if e.Data != nil && e.Data.Member == "nonce" {
			return "in JSON a nonce is base64 of 8 to 64 bytes: `head -c 32 /dev/urandom | base64` makes one"
		}
	case rpc.CodeUnattributed:
		return "`journalctl -u cimad` on the host says what was seen; cimad(8), CONTAINERS, says which containers are known"
	case rpc.CodeRateLimited, rpc.CodeNotReady:
		return fmt.Sprintf("ask again in %v", e.RetryAfter())
	case rpc.CodeTEEUnavailable:
		return "`cimactl doctor` on the host says what is missing"
	case rpc.CodeLogInconsistent:
		return "something else extended RTMR3; only a reboot makes log and register agree again"
	}
	return ""
}
