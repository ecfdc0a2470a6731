package daemon

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// Container B logs one of 100,000 contents that container A can list. Nothing
// that A sees shows which one: not with A's own salts, not without a salt, and
// not by any register. Both views replay to the same RTMR3; with B's salt the
// guess is certain.
func TestGuesses(t *testing.T) {
	f := dockerFixture(t, func(c *config.Config) { c.Access = []config.AccessRule{{Allow: []string{rpc.MethodExtendMeasurement}}} })
	a, b := f.hold(), f.hold()
	const secret = 73113
	ask := func(id string) []byte {
		return []byte(docker(t, "exec", id, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	}
	extendMeasurement := func(id, content string) {
		docker(t, "exec", id, "/cimactl", "call", rpc.MethodExtendMeasurement, fmt.Sprintf(`{"domain":"app","operation":"pin","content":%q}`, content))
	}
	extendMeasurement(a, "of-a")
	extendMeasurement(b, fmt.Sprintf("%05d", secret))
	mine, theirs := ask(a), ask(b)
	ra, rb := f.wantAuthentic(mine), f.wantAuthentic(theirs)
	if ra.Registers.RTMR[3] != rb.Registers.RTMR[3] {
		t.Error("A's view and B's replay to two registers")
	}
	view := decode[rpc.Evidence](t, mine)
	// Everything that A has of others: each digest, and each digest and
	// register of the claims.
	known := make(map[hw.Digest]bool)
	var salts []string
	for _, entry := range view.RuntimeLog {
		for run := entry.Digests; len(run) > 0; run = run[48:] {
			known[hw.Digest(run)] = true
		}
		if e, err := logs.ParseEvent(entry.Event); err == nil && e.Salt != "" {
			salts = append(salts, e.Salt)
		}
	}
	claims := claimsOf(t, mine)
	for _, d := range []rpc.Digest{claims.Log.Register, claims.Log.Public, claims.Container.Register, claims.Container.LaunchDigest} {
		known[d] = true
	}
	salts = append(salts, base64.StdEncoding.EncodeToString(make([]byte, 16)))
	var its logs.Event
	for _, entry := range decode[rpc.Evidence](t, theirs).RuntimeLog {
		if e, err := logs.ParseEvent(entry.Event); err == nil && e.Operation == logs.OpExtend {
			its = e
		}
	}
	if bytes.Contains(mine, []byte(b)) || bytes.Contains(mine, []byte(base64.StdEncoding.EncodeToString([]byte(its.Salt)))) {
		t.Error("A's evidence names B, or its salt")
	}
	if !known[its.Digest()] {
		t.Fatal("A's view lacks B's event: there is nothing to guess")
	}
	guess := func(n int, salt string) logs.Event {
		body, err := json.Marshal(map[string]any{"extend": logs.ExtendBody{Domain: "app", Operation: "pin", Content: fmt.Sprintf("%05d", n)}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := logs.NewEvent(logs.OpExtend, logs.Content{Container: b, Measured: body, Salt: salt})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	sure := 0
	from, to := secret-500, secret+500
	if *whole {
		from, to = 0, 100_000
	}
	for n := from; n < to; n++ {
		for _, salt := range salts {
			if known[guess(n, salt).Digest()] {
				t.Fatalf("guess %d is found with the salt %s", n, salt)
			}
		}
		e := guess(n, its.Salt)
		measured, _ := e.MeasuredDigest()
		if known[measured] || known[sha512.Sum384(e.Measured)] || known[sha512.Sum384(e.Body())] || known[canonical.Digest{}.Extend(measured)] {
			t.Fatalf("guess %d is found without a salt", n)
		}
		if known[e.Digest()] {
			sure++
			if n != secret {
				t.Errorf("guess %d is found with B's salt", n)
			}
		}
	}
	if sure != 1 {
		t.Errorf("with B's salt %d guesses are found", sure)
	}
}

// The presenter of evidence can't hide a public event behind its digest.
func TestStrippedPublicEvents(t *testing.T) {
	f := dockerFixture(t)
	f.evidenceOf("--cap-add", "SYS_ADMIN")
	bundle := f.evidenceOf()
	f.wantAuthentic(bundle)
	whole := decode[rpc.Evidence](t, bundle)
	stripped := 0
	for at, entry := range whole.RuntimeLog {
		e, err := logs.ParseEvent(entry.Event)
		if err != nil || !logs.Public(e.Operation) {
			continue
		}
		stripped++
		without := whole
		without.RuntimeLog = nil
		for i, entry := range whole.RuntimeLog {
			digest := e.Digest()
			run := entry.Digests
			if i == at {
				run = digest[:]
			}
			if n := len(without.RuntimeLog); n > 0 && run != nil && without.RuntimeLog[n-1].Digests != nil {
				without.RuntimeLog[n-1].Digests = append(bytes.Clone(without.RuntimeLog[n-1].Digests), run...)
				continue
			}
			if i == at {
				entry = rpc.LogEntry{Digests: run}
			}
			without.RuntimeLog = append(without.RuntimeLog, entry)
		}
		text, err := without.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := f.appraise(text, nil); r.Verdict != verify.NotAuthentic || r.Step(verify.StepRuntimeLog).Outcome != verify.Pass {
			t.Errorf("%s stripped: %s: %+v", e.Operation, r.Verdict, r.Step(verify.StepRuntimeLog))
		}
	}
	if stripped < 4 {
		t.Errorf("only %d public events were there to be stripped", stripped)
	}
}
