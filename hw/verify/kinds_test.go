package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// attempt is evidence that somebody wants to pass for trusted, and a relying party that
// knows the world it is of.
type attempt struct {
	t     *testing.T
	w     *world
	claim *rpc.Claims
	e     *rpc.Evidence
	raw   []byte // in the bundle's place
	text  string // the policy
	opts  Options
	bare  *replay.Files
}

// asItShould is evidence of one container that its policy trusts.
func asItShould(t *testing.T) *attempt {
	w := twoContainers(t)
	a := &attempt{t: t, w: w, claim: w.claims(idOne), opts: w.options()}
	a.e = w.seal(a.claim, w.key)
	a.text = textOf(t, appraiseT(t, encode(t, a.e), a.opts))
	return a
}

// seal makes the evidence anew, as the agent would.
func (a *attempt) seal() { a.e = a.w.seal(a.claim, a.w.key) }

// again claims what the log shows now.
func (a *attempt) again() { a.claim = a.w.claims(idOne); a.seal() }

// boot makes the evidence on another TD, and keeps the policy.
func (a *attempt) boot(config sim.Config) {
	a.w = newWorld(a.t, config)
	a.w.launch(idOne, "one", "/bin/one")
	a.opts.TrustRoots = a.w.roots()
	a.again()
}

func (a *attempt) policy(pairs ...string) { a.text = replaced(a.t, a.text, pairs...) }

func (a *attempt) appraise() *Result {
	a.t.Helper()
	if a.text != "" {
		a.opts.Policy = parsePolicy(a.t, a.text)
	}
	if a.bare != nil {
		return appraiseFiles(a.t, *a.bare, a.opts)
	}
	if a.raw == nil {
		a.raw = rawEncode(a.t, a.e)
	}
	return appraiseT(a.t, a.raw, a.opts)
}

// patched is a quote with bytes changed, signed anew by nobody.
func patched(quote []byte, at int, b ...byte) []byte {
	quote = bytes.Clone(quote)
	copy(quote[at:], b)
	return quote
}

// kinds are ways of being untrue, each with the step that says so. V rows are those of
// the attacks that worked once.
var kinds = []struct {
	kind, name string
	change     func(a *attempt)
	verdict    Verdict
	step       string
}{
	{"quote", "a bit of its body", func(a *attempt) { a.e.Quote[200] ^= 1 }, NotAuthentic, StepQuote},
	{"quote", "a bit of its signature", func(a *attempt) { a.e.Quote[48+584+4] ^= 1 }, NotAuthentic, StepQuote},
	{"quote", "another TD's", func(a *attempt) { a.e.Quote = twoContainers(a.t).evidence(idOne).Quote }, NotAuthentic, StepQuote},
	{"quote", "another vendor's enclave", func(a *attempt) { a.e.Quote = patched(a.e.Quote, 12, 1, 2, 3) }, Malformed, StepFormat},
	{"quote", "a version that nobody knows", func(a *attempt) { a.e.Quote[0] = 6 }, Malformed, StepFormat},
	{"quote", "bytes behind it", func(a *attempt) { a.e.Quote = append(a.e.Quote, 0) }, Malformed, StepFormat},
	{"quote", "none at all", func(a *attempt) { a.e.Quote = []byte("x") }, Malformed, StepFormat},
	{"quote", "real, of another machine", func(a *attempt) {
		a.e.Quote = cut(a.t, testdata.RawQuote)
		a.opts.TrustRoots, a.opts.At = nil, whenMade
	}, NotAuthentic, StepReportData},
	{"TD", "under debug", func(a *attempt) { a.boot(sim.Config{Debug: true}) }, NotAuthentic, StepDebug},
	{"TD", "that can be migrated", func(a *attempt) { a.boot(sim.Config{Migratable: true}) }, NotAuthentic, StepDebug},
	{"TD", "with a service TD", func(a *attempt) { a.boot(sim.Config{QuoteVersion: 5, ServiceTD: hw.Digest{1}}) }, NotAuthentic, StepDebug},
	{"TD", "V7: of other attributes", func(a *attempt) { a.text += "[td]\nattributes = [\"sept-ve-disable\", \"perfmon\"]\n" }, NotTrusted, StepTD},
	{"TD", "V7: with more features", func(a *attempt) { a.text += "[td]\nxfam = \"3\"\n" }, NotTrusted, StepTD},
	{"TD", "V7: of another module", func(a *attempt) { a.text += "[td]\nmrseam = \"" + strings.Repeat("01", 48) + "\"\n" }, NotTrusted, StepTD},
	{"TD", "V7: of another owner", func(a *attempt) { a.text += "[td]\nmrowner = \"" + strings.Repeat("01", 48) + "\"\n" }, NotTrusted, StepTD},
	{"chain", "simulated, and Intel's wanted", func(a *attempt) { a.opts.TrustRoots = nil }, NotAuthentic, StepQuote},
	{"chain", "under another root", func(a *attempt) { a.opts.TrustRoots = twoContainers(a.t).roots() }, NotAuthentic, StepQuote},
	{"chain", "run out", func(a *attempt) { a.opts.At = time.Now().AddDate(60, 0, 0) }, NotAuthentic, StepQuote},
	{"platform", "V8: no collateral", func(a *attempt) { a.policy(`"collateral",`, "") }, NotTrusted, StepNotProved},
	{"platform", "V8: no collateral, and rules", func(a *attempt) { a.policy(`"collateral",`, ""); a.text += "[tcb]\nmin_evaluation = 1\n" }, NotTrusted, StepNotProved},
	{"platform", "below the least SVN", func(a *attempt) { a.text += "[tcb]\nmin_svn = \"ff\"\n" }, NotTrusted, StepTCB},
	{"boot", "V1: the line behind a newline", func(a *attempt) {
		a.boot(sim.Config{BootLog: grubBoot("evil\n"+commandLine, "the initrd")})
	}, NotTrusted, StepBootValues},
	{"boot", "V1: the line behind 2,047 bytes", func(a *attempt) {
		a.boot(sim.Config{BootLog: grubBoot(strings.Repeat("x", 2048)+" "+commandLine, "the initrd")})
	}, NotTrusted, StepBootValues},
	{"boot", "V2: a root file system that nothing covers", func(a *attempt) {
		a.policy("root = \"verity\"", "root = \"not covered\"", `"root-not-covered",`, "")
	}, NotTrusted, StepNotProved},
	{"boot", "V3: registers of zeros", func(a *attempt) { a.boot(sim.Config{BootLog: boot.Encode(nil)}) }, NotTrusted, StepBootValues},
	{"boot", "another kernel", func(a *attempt) { a.boot(sim.Config{BootLog: grubBoot(commandLine, "another")}) }, NotTrusted, StepBootValues},
	{"boot", "a log of another boot", func(a *attempt) { a.e.BootLog = grubBoot(commandLine, "the initrd") }, NotAuthentic, StepBootLog},
	{"boot", "a log that isn't the claims'", func(a *attempt) { a.claim.BootLog[0] ^= 1; a.seal() }, NotAuthentic, StepBootLog},
	{"boot", "that has run out", func(a *attempt) { a.policy("[[boot]]\n", "[[boot]]\nuntil = 2020-01-01\n") }, NotTrusted, StepBootValues},
	{"boot", "whose host input nobody has looked at", func(a *attempt) { a.policy(`"host-input-unknown",`, "") }, NotTrusted, StepNotProved},
	{"log", "an event left out", func(a *attempt) { a.e.RuntimeLog = slices.Delete(a.e.RuntimeLog, 2, 3) }, NotAuthentic, StepRuntimeLog},
	{"log", "an event twice", func(a *attempt) { a.e.RuntimeLog = append(a.e.RuntimeLog, a.e.RuntimeLog[1]) }, NotAuthentic, StepRuntimeLog},
	{"log", "public events hidden", func(a *attempt) {
		a.e.RuntimeLog[1] = rpc.LogEntry{Digests: digestBytes(a.w.log[1])}
	}, NotAuthentic, StepClaims},
	{"log", "another container's events", func(a *attempt) {
		a.e.RuntimeLog = a.w.view("")[:0]
		for _, e := range a.w.log {
			a.e.RuntimeLog = append(a.e.RuntimeLog, rpc.LogEntry{Event: e.Bytes()})
		}
	}, NotAuthentic, StepCaller},
	{"log", "private", func(a *attempt) {
		a.claim.Log.View = rpc.ViewPrivate
		a.seal()
		a.e.RuntimeLog = slices.DeleteFunc(a.e.RuntimeLog, func(r rpc.LogEntry) bool { return r.Digests != nil })
	}, NotTrusted, StepNotProved},
	{"log", "that nothing but claims holds", func(a *attempt) { a.claim.Log.Anchor = "report-data"; a.seal() }, NotTrusted, StepNotProved},
	{"events", "V4: missed starts", func(a *attempt) {
		a.w.public(logs.OpMissed, `{"count":4096,"what":"launch","why":"x"}`)
		a.again()
	}, NotTrusted, StepEvents},
	{"events", "V6: power", func(a *attempt) { a.w.public(logs.OpPower, `{"classes":["privileged"]}`); a.again() }, NotTrusted, StepPower},
	{"events", "power that can't be read", func(a *attempt) { a.w.public(logs.OpPower, `{"classes":7}`); a.again() }, NotTrusted, StepPower},
	{"events", "a new agent's key", func(a *attempt) { a.w.key = newKey(9); a.w.start(a.w.key); a.again() }, NotTrusted, StepNotProved},
	{"events", "the container's end", func(a *attempt) { a.w.own(idOne, logs.OpExit, ""); a.again() }, NotAuthentic, StepCaller},
	{"events", "two images", func(a *attempt) { a.w.image(idOne, "two"); a.again() }, NotAuthentic, StepCaller},
	{"claims", "a forged register", func(a *attempt) { a.claim.Container.Register[0] ^= 1; a.seal() }, NotAuthentic, StepCaller},
	{"claims", "another launch digest", func(a *attempt) { a.claim.Container.LaunchDigest[0] ^= 1; a.seal() }, NotAuthentic, StepCaller},
	{"claims", "signed by somebody else", func(a *attempt) {
		_, key, _ := ed25519.GenerateKey(nil)
		a.e = a.w.seal(a.claim, key)
	}, NotAuthentic, StepAgent},
	{"claims", "not those that were quoted", func(a *attempt) {
		a.e.Claims = bytes.Replace(a.e.Claims, []byte(`"pidfd":true`), []byte(`"pidfd":false`), 1)
	}, NotAuthentic, StepReportData},
	{"claims", "of another nonce", func(a *attempt) { a.opts.Nonce = []byte("another nonce of mine") }, NotAuthentic, StepNonce},
	{"claims", "of no nonce", func(a *attempt) { a.opts.Nonce = nil }, NotTrusted, StepNotProved},
	{"claims", "another channel", func(a *attempt) { key := []byte("key"); a.opts.UserData = &key }, NotAuthentic, StepUserData},
	{"claims", "no channel, and one demanded", func(a *attempt) { a.policy("waive = [", "demand = \"channel\"\nwaive = [") }, NotTrusted, StepNotProved},
	{"claims", "started unseen", func(a *attempt) { a.claim.Container.Assurance.Start = "observed"; a.seal() }, NotTrusted, StepNotProved},
	{"launch", "another container's", func(a *attempt) { a.claim = a.w.claims(idTwo); a.seal() }, NotTrusted, StepCallerValues},
	{"launch", "other arguments", func(a *attempt) { a.w.launch(idOne, "one", "/bin/evil"); a.again() }, NotTrusted, StepCallerValues},
	{"launch", "too large to be shown", func(a *attempt) {
		a.w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked_sha384":"`+strings.Repeat("ab", 48)+`","defaults_sha384":"`+strings.Repeat("cd", 48)+`"}`)
		a.w.image(idOne, "one")
		a.again()
	}, NotTrusted, StepCallerValues},
	{"launch", "a user's engine", func(a *attempt) {
		a.text = anyLaunch(a.t, a.text)
		a.w.own(idOne, logs.OpLaunch, `{"source":"user","cgroup_owner":1000,"asked":{},"defaults":{}}`)
		a.w.image(idOne, "one")
		a.claim = a.w.claims(idOne)
		a.claim.Container.Assurance.CgroupOwner = 1000
		a.seal()
	}, NotTrusted, StepCallerValues},
	{"launch", "a program that nobody lists", func(a *attempt) {
		a.policy("name = \"first seen 1\"", "name = \"x\"\nexecs = \""+strings.Repeat("01", 48)+"\"")
		a.w.own(idOne, logs.OpExec, `{"path":"/evil","sha384":"`+strings.Repeat("02", 48)+`"}`)
		a.again()
	}, NotTrusted, StepCallerValues},
	{"launch", "mounts that lead elsewhere", func(a *attempt) {
		a.w.own(idOne, logs.OpMounted, `{"mounts":[{"destination":"/data","place":"/etc"}]}`)
		a.again()
	}, NotTrusted, StepNotProved},
	{"policy", "run out", func(a *attempt) { a.policy("cima_policy = 2", "cima_policy = 2\nuntil = 2020-01-01") }, NotTrusted, StepPolicy},
	{"policy", "that revokes the image", func(a *attempt) {
		a.text += "[[revoked]]\ndigest = \"" + imageDigestOf("one") + "\"\nwhy = \"x\"\n"
	}, NotTrusted, StepPolicy},
	{"policy", "none", func(a *attempt) { a.text = "" }, NotTrusted, StepBootValues},
	{"policy", "empty", func(a *attempt) { a.text = "cima_policy = 2\n" }, NotTrusted, StepBootValues},
	{"policy", "V5: a bare quote under a policy with containers", func(a *attempt) {
		f := a.w.files(hw.ReportData{})
		a.bare, a.opts.Nonce = &replay.Files{Quote: f.Quote}, nil
	}, NotTrusted, StepBootValues},
	{"formats", "a member that nobody knows", func(a *attempt) {
		a.raw = bytes.Replace(rawEncode(a.t, a.e), []byte(`{"profile"`), []byte(`{"more":1,"profile"`), 1)
	}, Malformed, StepFormat},
	{"formats", "a member twice", func(a *attempt) {
		a.raw = bytes.Replace(rawEncode(a.t, a.e), []byte(`{"profile"`), []byte(`{"tee":"tdx","profile"`), 1)
	}, Malformed, StepFormat},
	{"formats", "null", func(a *attempt) { a.raw = []byte("null") }, Malformed, StepFormat},
	{"formats", "of an earlier profile", func(a *attempt) {
		a.raw = bytes.Replace(rawEncode(a.t, a.e), []byte("/evidence/v2"), []byte("/evidence/v1"), 1)
	}, Malformed, StepFormat},
	{"formats", "nested without end", func(a *attempt) { a.raw = bytes.Repeat([]byte("["), 1<<20) }, Malformed, StepFormat},
	{"exhaustion", "claims without end", func(a *attempt) {
		a.e.Claims = bytes.Replace(a.e.Claims, []byte(`{"agent"`), fmt.Appendf(nil, `{"a":%q,"agent"`, strings.Repeat("x", 70<<10)), 1)
	}, Malformed, StepFormat},
}

func digestBytes(e logs.Event) []byte { d := e.Digest(); return d[:] }

// Every kind of untruth has its verdict, and the step that says so.
func TestKinds(t *testing.T) {
	if a := asItShould(t); a.appraise().Verdict != Trusted {
		t.Fatal("what all kinds change is not trusted")
	}
	names := make(map[string]bool)
	for _, k := range kinds {
		t.Run(k.kind+"/"+k.name, func(t *testing.T) {
			names[k.kind+k.name] = true
			a := asItShould(t)
			k.change(a)
			r := a.appraise()
			if r.Verdict != k.verdict || !strings.HasPrefix(r.Reason, k.step+": ") {
				var b strings.Builder
				r.WriteTable(&b)
				t.Errorf("%q because of %q; want %q because of %s\n%s", r.Verdict, r.Reason, k.verdict, k.step, &b)
			}
		})
	}
	if len(names) < 40 {
		t.Errorf("%d kinds", len(names))
	}
}

// V10: many events against many programs make a small result.
func TestResultsAreSmall(t *testing.T) {
	a := asItShould(t)
	var programs []string
	for i := range 1000 {
		programs = append(programs, fmt.Sprintf("%q", fmt.Sprintf("%096x", i+1)))
	}
	a.policy("name = \"first seen 1\"", "name = \"x\"\nexecs = ["+strings.Join(programs, ",")+"]")
	for i := range 2000 {
		a.w.own(idOne, logs.OpExec, fmt.Sprintf(`{"sha384":"%096x"}`, 1<<20+i))
	}
	for i := range 200 {
		a.w.public(logs.OpPower, fmt.Sprintf(`{"classes":["device:c:%d:1"]}`, i))
	}
	a.again()
	r := a.appraise()
	if r.Verdict != NotTrusted {
		t.Fatal(r.Verdict)
	}
	steps, err := json.Marshal(struct {
		Steps     []Step
		NotProved []Statement
	}{r.Steps, r.NotProved})
	var table strings.Builder
	r.WriteTable(&table)
	if err != nil || len(steps) > 64<<10 || table.Len() > 32<<10 {
		t.Errorf("%d bytes of steps, a table of %d; %v", len(steps), table.Len(), err)
	}
}

// sharedQuote is a real quote that is no part of the repository.
func sharedQuote(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/work/shared/testdata", name))
	if err != nil {
		t.Skipf("left out: %v (published elsewhere, not part of the repo)", err)
	}
	return raw
}

// A quote with a body of type 4, real and published with its collateral.
func TestExtendedQuote(t *testing.T) {
	raw := sharedQuote(t, "real/quotes/v5-body4.bin")
	at := time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	r := appraiseFiles(t, replay.Files{Quote: raw}, Options{At: at})
	expect(t, r, Authentic)
	q, _, err := dcap.CutQuote(raw)
	if err != nil || q.Extended == nil || q.Extended.VMID != 0 {
		t.Fatal(q, err)
	}
	const body = 48 + 6
	for name, place := range map[string]int{"header": 20, "descriptor": 50, "body": body + 136, "its end": body + 884, "signature": body + 885 + 4, "key": body + 885 + 4 + 64} {
		bad := bytes.Clone(raw)
		bad[place] ^= 1
		if r := appraiseFiles(t, replay.Files{Quote: bad}, Options{At: at}); r.Verdict == Authentic {
			t.Errorf("a bit of %s is free", name)
		}
	}
	long := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(long[50:], 884)
	expect(t, appraiseFiles(t, replay.Files{Quote: long}, Options{At: at}), Malformed, StepFormat)
}
