package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

const (
	rootPEM      = "/run/cima-vm-root.pem"
	runtimeLog   = "/run/log/cima/runtime.log"
	reports      = "/sys/kernel/config/tsm/report"
	measurements = "/sys/devices/virtual/misc/tdx_guest/measurements"
	knobs        = "/sys/module/cima_test_td/parameters"
	testTD       = "/dev/cima_test_td"
)

// world is what the checks share.
type world struct {
	out      string                  // directory of files to copy out
	figures  string                  // figures of the check that runs
	launches map[string][]rpc.Digest // launch digests by engine, of one command line
}

// note adds figures to a check's line.
func (w *world) note(format string, args ...any) { w.figures = ": " + fmt.Sprintf(format, args...) }

func (w *world) takeNote() (note string) {
	note, w.figures = w.figures, ""
	return note
}

func (w *world) keep(name string, data []byte) {
	path := filepath.Join(w.out, name)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		fmt.Printf("     not kept: %v\n", err)
	}
}

// command runs a program to its end; an error contains what the program
// printed.
func command(ctx context.Context, args ...string) (string, error) {
	return finish(exec.CommandContext(ctx, args[0], args[1:]...))
}

func finish(c *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.WaitDelay = 5 * time.Second
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(c.Args[:min(len(c.Args), 4)], " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// property is one property of a unit.
func property(ctx context.Context, unit, name string) string {
	out, _ := command(ctx, "systemctl", "show", "--value", "-p", name, unit)
	return strings.TrimSpace(out)
}

// set turns a knob of the test module.
func set(knob string, value int) error {
	return os.WriteFile(filepath.Join(knobs, knob), []byte(strconv.Itoa(value)), 0)
}

// turned sets knobs, runs f, and sets them back to zero. The errno of a failure
// is set before the count of failures, and reset after it.
func turned(values map[string]int, f func() error) error {
	order := slices.Sorted(maps.Keys(values))
	var errs []error
	for _, knob := range order {
		errs = append(errs, set(knob, values[knob]))
	}
	errs = append(errs, f())
	for _, knob := range slices.Backward(order) {
		errs = append(errs, set(knob, 0))
	}
	return errors.Join(errs...)
}

func client(ctx context.Context) (*rpc.Client, error) { return rpc.Dialer{Wait: true}.Dial(ctx) }

func newNonce() []byte {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return nonce
}

// ask calls, and repeats the call if the daemon asks for that.
func ask(ctx context.Context, call func() error) error {
	for {
		err := call()
		var e *rpc.Error
		if !errors.As(err, &e) || e.Code != rpc.CodeRateLimited && e.Code != rpc.CodeNotReady {
			return err
		}
		select {
		case <-time.After(e.RetryAfter()):
		case <-ctx.Done():
			return err
		}
	}
}

// hostEvidence is evidence about this process.
func hostEvidence(ctx context.Context, nonce []byte) (bundle []byte, err error) {
	c, err := client(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	err = ask(ctx, func() (err error) {
		bundle, err = c.GetEvidence(ctx, rpc.EvidenceParams{Nonce: nonce})
		return err
	})
	return bundle, err
}

// goodHostEvidence checks that everything works again.
func goodHostEvidence(ctx context.Context) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return fmt.Errorf("the call after it: %w", err)
	}
	_, err = appraise(ctx, bundle, nonce)
	return err
}

// waived is what the tests accept without proof: a simulated TD has no collateral, and
// nobody has looked what its system reads of its host.
const waived = "collateral,host-input-unknown,root-not-covered,line-opens,start-observed,mounts,missed-launch"

// appraise has evidence judged as a relying party would: by the released
// cimactl, with the test root and a policy made from the evidence.
func appraise(ctx context.Context, bundle, nonce []byte) (*verify.Result, error) {
	dir, err := os.MkdirTemp("", "cima-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, policy := filepath.Join(dir, "evidence.json"), filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		return nil, err
	}
	values, err := command(ctx, "cimactl", "policy", "init", file, "--trust-root", rootPEM, "--waive", waived)
	if err != nil {
		return nil, err
	}
	values = allowing(values, "", true)
	if err := os.WriteFile(policy, []byte(values), 0o600); err != nil {
		return nil, err
	}
	out, err := command(ctx, "cimactl", "verify", file, "--nonce", hex.EncodeToString(nonce), "--trust-root", rootPEM, "--policy", policy, "--json")
	var result verify.Result
	if json.Unmarshal([]byte(out), &result) != nil {
		return nil, fmt.Errorf("cimactl verify printed no result: %w", err)
	}
	if err != nil || result.Verdict != verify.Trusted {
		return nil, fmt.Errorf("verify's verdict is %q: %s; %v", result.Verdict, result.Reason, failedSteps(&result))
	}
	// Intel's root must not accept it.
	var exit *exec.ExitError
	if _, err := command(ctx, "cimactl", "verify", file, "--nonce", hex.EncodeToString(nonce)); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return nil, fmt.Errorf("verify without the test root: %v, not exit code 2", err)
	}
	return &result, nil
}

func failedSteps(r *verify.Result) (out []string) {
	for _, s := range r.Steps {
		if s.Outcome != "pass" {
			out = append(out, fmt.Sprintf("%s: %s: %s", s.Name, s.Outcome, s.Detail))
		}
	}
	return out
}

// replay extends a zero register with the runtime log of evidence.
func replay(e *rpc.Evidence) (register hw.Digest, err error) {
	for _, entry := range e.RuntimeLog {
		if entry.Event != nil {
			event, err := logs.ParseEvent(entry.Event)
			if err != nil {
				return register, err
			}
			register = register.Extend(event.Digest())
		}
		for d := entry.Digests; len(d) > 0; d = d[48:] {
			register = register.Extend(hw.Digest(d[:48]))
		}
	}
	return register, nil
}

// kernelRTMR3 is RTMR3 as sysfs shows it.
func kernelRTMR3() (hw.Digest, error) {
	b, err := os.ReadFile(measurements + "/rtmr3:sha384")
	if err == nil && len(b) != 48 {
		err = fmt.Errorf("rtmr3 must have 48 bytes, not %d", len(b))
	}
	if err != nil {
		return hw.Digest{}, err
	}
	return hw.Digest(b), nil
}

// wireError checks that the daemon returned an error of the expected kind.
func wireError(err error, code rpc.Code, errno syscall.Errno) error {
	var e *rpc.Error
	switch {
	case err == nil:
		return errors.New("the call succeeded, although a failure was injected")
	case !errors.As(err, &e) || e.Code != code:
		return fmt.Errorf("got %w, must be an error with code %d", err, code)
	case errno != 0 && (e.Data == nil || e.Data.Errno != errnoName(errno)):
		return fmt.Errorf("error %q has data %+v, and must name %s", e.Message, e.Data, errnoName(errno))
	}
	return nil
}
