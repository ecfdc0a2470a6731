package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Whatever others do, evidence can be sent: the log is full before evidence is
// too large.
func TestEvidenceBesideAFullLog(t *testing.T) {
	for _, isolation := range []string{config.IsolationRedacted, config.IsolationPrivate, config.IsolationNone} {
		t.Run(isolation, func(t *testing.T) {
			f := newFixture(t, func(c *config.Config) {
				c.Limits.EvidenceReply = 512 << 10
				c.Isolation = isolation
			})
			events := 0
			full := func(e ledger.Event) bool {
				_, err := f.daemon.ledger.Append(t.Context(), e)
				events++
				if err != nil && !errors.Is(err, ledger.ErrFull) || events > 100000 {
					t.Fatalf("event %d: %v", events, err)
				}
				return err != nil
			}
			other := func(i int) ledger.Event {
				return ledger.Event{Operation: logs.OpLaunch, Owner: fmt.Sprint("c", i), Instance: "1",
					Measured: map[string]any{"arguments": strings.Repeat("x", i%5000)}}
			}
			power := func(i int) ledger.Event {
				return ledger.Event{Operation: logs.OpPower, Measured: logs.PowerBody{Classes: []string{fmt.Sprint(i)}}}
			}
			for i := 0; !full(other(i)); i++ {
			}
			for i := 0; !full(power(i)); i++ {
			}
			bundle, err := f.client().GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce})
			if err != nil {
				t.Fatalf("after %d events: %v", events, err)
			}
			if len(bundle) > f.config.Limits.EvidenceReply {
				t.Errorf("evidence has %d bytes", len(bundle))
			}
			f.wantAuthentic(bundle)
			if n := countEvents(t, bundle, logs.OpMissed); n == 0 {
				t.Error("the log must have an event that it was full")
			}
			t.Logf("%d events, evidence of %d bytes", events, len(bundle))
		})
	}
}

// A private log shows nothing of others, and its evidence says that it doesn't
// replay; the checks that its reader can make succeed.
func TestPrivateIsolation(t *testing.T) {
	f := dockerFixture(t, func(c *config.Config) { c.Isolation = config.IsolationPrivate })
	f.evidenceOf("--env", "ITS_NAME=1")
	bundle := f.evidenceOf()
	r := f.wantAuthentic(bundle)
	if s := r.Step(verify.StepRuntimeLog); s.Outcome != verify.Warn {
		t.Errorf("%+v", s)
	}
	e := decode[rpc.Evidence](t, bundle)
	for _, entry := range e.RuntimeLog {
		if entry.Event == nil || strings.Contains(string(entry.Event), "ITS_NAME") {
			t.Errorf("shown of another: %s%x", entry.Event, entry.Digests)
		}
	}
	if claims := claimsOf(t, bundle); claims.Log.View != rpc.ViewPrivate || len(e.RuntimeLog) >= claims.Log.Count {
		t.Errorf("%d records and %+v", len(e.RuntimeLog), claims.Log)
	}
	if r := f.appraise(f.evidenceOf(), f.policyFrom(bundle)); r.Verdict != verify.Trusted {
		t.Errorf("under the policy made from it: %s: %s", r.Verdict, r.Reason)
	}
	if _, err := f.inContainer(nil, "evidence", "--format", "trustee", "--nonce", "0011223344556677"); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("as Trustee's: %v", err)
	}
}

// A reload changes the log's limits.
func TestReloadOfLimits(t *testing.T) {
	f := newFixture(t)
	f.stop()
	f.start()
	write := func(text string) error {
		if err := os.WriteFile(f.configFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f.daemon.reload(t.Context())
	}
	if err := write("[limits]\nevidence_reply = 100000\n"); err == nil || !strings.Contains(err.Error(), "evidence_reply") {
		t.Errorf("too little room: %v", err)
	}
	if err := write("[limits]\nevents_per_container = 1\nevidence_reply = 67108864\n"); err != nil {
		t.Fatal(err)
	}
	if got := f.daemon.config().Limits.EvidenceReply; got != f.config.Limits.EvidenceReply {
		t.Errorf("evidence may have %d bytes, and the servers send %d", got, f.config.Limits.EvidenceReply)
	}
	launched := ledger.Event{Operation: logs.OpLaunch, Owner: "c", Instance: "1", Measured: map[string]any{}}
	if _, err := f.daemon.ledger.Append(t.Context(), launched); err != nil {
		t.Fatal(err)
	}
	launched.Instance = "2"
	if _, err := f.daemon.ledger.Append(t.Context(), launched); !errors.Is(err, ledger.ErrSpent) {
		t.Errorf("the second event of one: %v", err)
	}
}

// The daemon does not ask an engine that the configuration leaves out.
func TestEnginesLeftOut(t *testing.T) {
	c := config.Default()
	c.Engines.Docker, c.Engines.Podman = "", ""
	if o := engineOptions(c); o.Engines == nil || len(o.Engines) != 0 {
		t.Errorf("asked: %+v", o.Engines)
	}
}
