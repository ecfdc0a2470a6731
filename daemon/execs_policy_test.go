package daemon

import (
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
)

// shell starts a container with a shell and cimactl, which keeps running.
func (f *fixture) shell(flags ...string) string {
	f.t.Helper()
	needShell(f.t)
	args := append([]string{"create", "--network", "none", "-v", filepath.Dir(f.socket()) + ":/run/cima:ro"}, flags...)
	id := docker(f.t, append(args, shellImage, "/bin/busybox", "sleep", "600")...)
	f.t.Cleanup(func() { docker(f.t, "rm", "-f", id) })
	docker(f.t, "start", id)
	return id
}

// inside runs a script in a container, which executes programs there.
func inside(id, script string) (string, error) {
	out, err := exec.Command("docker", "exec", id, "/bin/busybox", "sh", "-c", script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// evidenceFrom is evidence of a running container.
func evidenceFrom(t *testing.T, id string) []byte {
	t.Helper()
	return []byte(docker(t, "exec", id, "/bin/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
}

// execsOf are a container's exec events, in order.
func (f *fixture) execsOf(id string) (all []logs.ExecBody) {
	f.t.Helper()
	for _, e := range f.events() {
		if e.Container == id && e.Operation == logs.OpExec {
			all = append(all, decode[logs.ExecBody](f.t, e.Body()))
		}
	}
	return all
}

// Verification names a program that was executed by plain exec and is not on
// the list.
func TestIntruderIsNamed(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	id := f.shell()
	good := evidenceFrom(t, id)
	text := f.policyText(good)
	if _, list, _ := strings.Cut(text, "execs = ["); strings.Count(list[:strings.IndexByte(list, ']')], ",") != 1 { // busybox and cimactl
		t.Fatalf("the policy made from it lists other programs:\n%s", text)
	}
	policy := f.parse(text)
	if r := f.appraise(evidenceFrom(t, id), policy); r.Verdict != verify.Trusted {
		t.Fatalf("nothing else ran: %s: %s", r.Verdict, r.Reason)
	}
	if out, err := inside(id, `/bin/busybox cp /bin/busybox /busybox-intruder; echo x >>/busybox-intruder; /busybox-intruder true`); err != nil {
		t.Fatal(out)
	}
	r := f.appraise(evidenceFrom(t, id), policy)
	step := r.Step(verify.StepCallerValues)
	if r.Verdict == verify.Trusted || step.Outcome != verify.Fail || !strings.Contains(step.Detail, "it executed ") {
		t.Errorf("with an intruder: %s; %s", r.Verdict, step.Detail)
	}
	f.wantAuthentic(evidenceFrom(t, id)) // the register replays, RTMR3 agrees
	again := f.shell()
	if r := f.appraise(evidenceFrom(t, again), policy); r.Verdict != verify.Trusted {
		t.Errorf("another container of the right image: %s: %s", r.Verdict, r.Reason)
	}
}

// scripts are n different programs, followed by an intruder.
const scripts = `i=0; while [ $i -lt %d ]; do /bin/busybox printf '#!/bin/busybox true\n# %%d\n' $i >/s$i; /bin/busybox chmod 755 /s$i; /s$i || exit 9; i=$((i+1)); done`

// A container that has used up its share of the log can't act unseen: the log
// has an event that there is more, and verification refuses that; or further
// execs are denied.
func TestExecBudget(t *testing.T) {
	const share = 12
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode, c.Limits.EventsPerContainer = config.ExecMeasure, share })
	id := f.shell()
	text := f.policyText(evidenceFrom(t, id))
	if out, err := inside(id, fmt.Sprintf(scripts, 2*share)); err != nil {
		t.Fatal(out)
	}
	bundle := evidenceFrom(t, id)
	f.wantAuthentic(bundle)
	last := f.execsOf(id)
	if e := last[len(last)-1]; e.Missed != ledger.ErrFull.Error() || e.SHA384 != nil {
		t.Fatalf("the last of %d execs: %+v", len(last), e)
	}
	if n := len(strings.Fields(f.operations(id))); n != share+1 {
		t.Errorf("%d events, must be its share of %d, and one", n, share)
	}
	text = strings.Replace(text, "execs = [", "execs = ["+digestsOf(last), 1)
	r := f.appraise(bundle, f.parse(text))
	if step := r.Step(verify.StepNotProved); r.Verdict == verify.Trusted || !strings.Contains(step.Detail, "executions") || !strings.Contains(fmt.Sprint(r.NotProved), ledger.ErrFull.Error()) {
		t.Errorf("all that is logged is allowed, more ran: %s: %s", r.Verdict, step.Detail)
	}
	text = strings.Replace(text, "execs = [", "waive = \"executions\"\nexecs = [", 1)
	if r := f.appraise(bundle, f.parse(text)); r.Verdict != verify.Trusted {
		t.Errorf("with executions waived: %s: %s", r.Verdict, r.Reason)
	}
	// The event is logged once, also over a restart of the daemon.
	f.regate(func(*config.Config) {})
	inside(id, "/bin/busybox cp /s1 /t1; echo >>/t1; /t1")
	f.wantAuthentic(evidenceFrom(t, id))
	if n := len(f.execsOf(id)); n != len(last) {
		t.Errorf("%d exec events after a restart, %d before", n, len(last))
	}

	f.regate(func(c *config.Config) { c.Exec.Mode = config.ExecEnforce })
	id = f.shell()
	if out, err := inside(id, fmt.Sprintf(scripts, 2*share)); err == nil || !strings.Contains(out, "ermission denied") && !strings.Contains(out, "not permitted") {
		t.Errorf("enforced, and past its share it ran on: %v %s", err, out)
	}
	if out, err := inside(id, "true"); err != nil {
		t.Errorf("what is known already may run: %v %s", err, out)
	}
}

// digestsOf are programs as elements of a list.
func digestsOf(execs []logs.ExecBody) (list string) {
	for _, e := range execs {
		if e.SHA384 != nil {
			list += fmt.Sprintf("%q, ", e.SHA384)
		}
	}
	return list
}

// If a launch was logged at the gate and its runtime had gone on by then, the
// next daemon does not treat it as gated either.
func TestFailedStartIsNotAdopted(t *testing.T) {
	f := dockerFixture(t)
	id := docker(t, "create", "-i", "--network", "none", "-v", filepath.Dir(f.socket())+":/run/cima:ro", testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { docker(t, "rm", "-f", id) })
	f.stop()
	docker(t, "start", id)
	f.start()
	list, err := f.daemon.store().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(r records.Record) bool { return r.ID == id })
	if at < 0 {
		t.Fatal("no record of the container")
	}
	rec := list[at]
	l, err := f.daemon.store().Measure(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	// The gate does this; then the daemon is killed, or was stopped before.
	launched := ledger.Event{Operation: logs.OpLaunch, Owner: rec.ID, Instance: rec.InstanceID(0), Measured: l}
	if _, err := f.daemon.ledger.Append(t.Context(), launched); err != nil {
		t.Fatal(err)
	}
	f.regate(func(c *config.Config) { c.Gate.Mode = config.GateOn })
	out := []byte(docker(t, "exec", id, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	if start := claimsOf(t, out).Container.Assurance.Start; start != logs.StartObserved {
		t.Errorf("start %q", start)
	}
}
