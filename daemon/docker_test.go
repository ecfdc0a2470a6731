package daemon

import (
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

func TestWhoAmIInDocker(t *testing.T) {
	f := dockerFixture(t)
	for _, tt := range []struct {
		name  string
		flags []string
		uid   uint32
	}{
		{"plain", nil, 0},
		{"unprivileged", []string{"--user", "1234:1234", "--cap-drop", "ALL"}, 1234},
		{"read-only, no new privileges", []string{"--read-only", "--security-opt", "no-new-privileges"}, 0},
		{"host pid namespace", []string{"--pid", "host"}, 0},
		{"added power", []string{"--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cid := filepath.Join(t.TempDir(), "cid")
			out, err := f.inContainer(append(tt.flags, "--cidfile", cid), "whoami", "--json")
			if err != nil {
				t.Fatal(err)
			}
			who := decode[rpc.Identity](t, out)
			if who.Container == nil || who.Container.ID != readFile(t, cid) || who.Container.Runtime != "docker" || who.UID != tt.uid {
				t.Fatalf("the daemon sees %s", out)
			}
			if a := who.Container.Assurance; a.Start != "observed" || !a.PIDFD || a.CgroupOwner != 0 || a.Metadata != "bundle+engine" {
				t.Errorf("assurance %+v", a)
			}
			if who.Container.LaunchDigest == nil || who.Container.ImageDigest != docker(t, "image", "inspect", "--format", "{{.Id}}", testImage) {
				t.Errorf("image digest %q", who.Container.ImageDigest)
			}
		})
	}
}

func TestEvidenceInDocker(t *testing.T) {
	f := dockerFixture(t)
	first, second := f.evidenceOf(), f.evidenceOf()
	r := f.wantAuthentic(first)
	if r.Step(verify.StepBootValues).Outcome == verify.Pass {
		t.Error("without a policy nothing may vouch for what was booted")
	}
	policy := f.policyFrom(first)
	for i, bundle := range [][]byte{first, second} {
		if r := f.appraise(bundle, policy); r.Verdict != verify.Trusted {
			t.Errorf("evidence %d under the policy made from the first: %s: %s", i, r.Verdict, r.Reason)
		}
	}
	if a, b := claimsOf(t, first).Container, claimsOf(t, second).Container; a.LaunchDigest != b.LaunchDigest || a.Register != b.Register || a.ID == b.ID {
		t.Errorf("two equal command lines: %+v and %+v", a, b)
	}
	other := f.evidenceOf("--env", "MORE=1")
	if claimsOf(t, other).Container.LaunchDigest == claimsOf(t, first).Container.LaunchDigest {
		t.Error("another environment has the same launch digest")
	}
	if r := f.appraise(other, policy); r.Verdict != verify.NotTrusted {
		t.Errorf("another launch under the policy: %s", r.Verdict)
	}
}

func TestPowerIsAnnounced(t *testing.T) {
	f := dockerFixture(t)
	f.evidenceOf()
	policy := f.policyFrom(f.evidenceOf())
	f.evidenceOf("--cap-add", "SYS_ADMIN")
	r := f.appraise(f.evidenceOf(), policy)
	if r.Verdict != verify.NotTrusted || !strings.Contains(r.Step(verify.StepPower).Detail, "SYS_ADMIN") {
		t.Fatalf("next to a container with an added capability: %s: %s", r.Verdict, r.Step(verify.StepPower).Detail)
	}
}

// policyFrom is a policy that the evidence meets: it allows the power that was seen.
func (f *fixture) policyFrom(bundle []byte) *policy.Policy {
	f.t.Helper()
	text := f.policyText(bundle)
	_, seen, _ := strings.Cut(text, "# Seen, and not allowed: ")
	if seen, _, _ = strings.Cut(seen, "\n"); seen != "" {
		text = strings.Replace(text, "\nallow = []", "\n"+seen, 1)
	}
	return f.parse(text)
}

// policyText is a policy made from evidence that waives all that stands in the way.
func (f *fixture) policyText(bundle []byte) string {
	f.t.Helper()
	r := f.wantAuthentic(bundle)
	waive := []string{codes.HostUnknown, codes.Root, codes.LineOpens}
	for _, s := range r.NotProved {
		if c, ok := codes.Of(s.Code); ok && c.Stands {
			waive = append(waive, s.Code)
		}
	}
	text, _, err := verify.InitPolicy([]*verify.Result{r}, waive)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f *fixture) parse(text string) *policy.Policy {
	f.t.Helper()
	p, err := policy.Parse("policy", []byte(text))
	if err != nil {
		f.t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

// A container that was measured before a restart is not measured again, and
// equal command lines stay equal over the restart.
func TestRestartInDocker(t *testing.T) {
	f := dockerFixture(t)
	hold := f.hold()
	before := docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))
	f.wantAuthentic([]byte(before))
	equal := f.evidenceOf("--env", "A=1")
	f.restart()
	after := docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))
	f.wantAuthentic([]byte(after))
	a, b := claimsOf(t, []byte(before)), claimsOf(t, []byte(after))
	if a.Container.LaunchDigest != b.Container.LaunchDigest || a.Container.Register != b.Container.Register {
		t.Error("a running container changed over a restart of the daemon")
	}
	if n := countEvents(t, []byte(after), logs.OpLaunch); n != 1 {
		t.Errorf("the container was launched once and logged %d times", n)
	}
	if again := f.evidenceOf("--env", "A=1"); claimsOf(t, again).Container.LaunchDigest != claimsOf(t, equal).Container.LaunchDigest {
		t.Error("an equal command line changed over a restart of the daemon")
	}
	docker(t, "restart", "-t", "0", hold)
	relaunched := docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))
	f.wantAuthentic([]byte(relaunched))
	if n := countEvents(t, []byte(relaunched), logs.OpLaunch); n != 2 {
		t.Errorf("the container was launched twice and logged %d times", n)
	}
}

// hold starts a container that stays until the test ends; exec runs in it.
func (f *fixture) hold(flags ...string) string {
	f.t.Helper()
	args := append([]string{"create", "-i", "--network", "none", "-v", filepath.Dir(f.socket()) + ":/run/cima:ro"}, flags...)
	id := docker(f.t, append(args, testImage, "/cimactl", "evidence", "--nonce", "-")...)
	f.t.Cleanup(func() { docker(f.t, "rm", "-f", id) })
	docker(f.t, "start", id)
	return id
}

func countEvents(t *testing.T, bundle []byte, operation string) (n int) {
	t.Helper()
	for _, entry := range decode[rpc.Evidence](t, bundle).RuntimeLog {
		if entry.Event == nil {
			continue
		}
		e, err := logs.ParseEvent(entry.Event)
		if err != nil {
			t.Fatal(err)
		}
		if e.Operation == operation {
			n++
		}
	}
	return n
}

// A container's evidence shows no event of another's.
func TestOthersAreDigests(t *testing.T) {
	f := dockerFixture(t)
	secret := f.evidenceOf("--env", "ITS_NAME=1", "--label", "secret=1")
	id := claimsOf(t, secret).Container.ID
	bundle := decode[rpc.Evidence](t, f.evidenceOf())
	for _, entry := range bundle.RuntimeLog {
		if strings.Contains(string(entry.Event), id) || strings.Contains(string(entry.Event), "ITS_NAME") {
			t.Fatalf("another's event: %s", entry.Event)
		}
	}
	if n := countEvents(t, mustJSON(t, bundle), logs.OpLaunch); n != 1 {
		t.Errorf("%d launches are shown", n)
	}
}

// Without isolation every caller sees everything, and the evidence shows that.
func TestWithoutIsolation(t *testing.T) {
	f := dockerFixture(t, func(c *config.Config) { c.Isolation = config.IsolationNone })
	f.evidenceOf("--env", "ITS_NAME=1")
	bundle := f.evidenceOf()
	f.wantAuthentic(bundle)
	if claimsOf(t, bundle).Log.View != rpc.ViewWhole || countEvents(t, bundle, logs.OpLaunch) < 2 {
		t.Errorf("the other's events are not shown: %+v", claimsOf(t, bundle).Log)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
