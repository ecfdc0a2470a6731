package verify

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

func TestPower(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPower, `{"classes":["privileged","device:c:*:*"]}`)
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	made := policyOf(t, appraiseT(t, bundle, opts))
	for _, c := range []struct {
		allow []string
		fits  bool
	}{{nil, false}, {[]string{"device:c:*:*"}, false}, {[]string{"device:c:*:*", "privileged", "no-metadata"}, true}, {made.Power.Allow, true}} {
		opts.Policy = made
		opts.Policy.Power.Allow = c.allow
		if r := appraiseT(t, bundle, opts); c.fits {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, StepPower)
		}
	}
	// Nothing allows a class that this version doesn't know; a policy that is made leaves
	// it out.
	w.public(logs.OpPower, `{"classes":["devices\nallow","privileged"]}`)
	opts.Policy = nil
	text, err := InitPolicy(appraiseT(t, encode(t, w.evidence(idOne)), opts))
	if err != nil || !strings.Contains(string(text), "none can allow them") {
		t.Fatalf("%v:\n%s", err, text)
	}
	if opts.Policy, err = policy.Parse(text); err != nil {
		t.Fatal(err)
	}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepPower)

	// A container whose start was missed could have had any power.
	for what, says := range map[string]bool{"exec": false, "launch": true} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpMissed, `{"count":1,"what":"`+what+`","why":"x"}`)
		w.launch(idOne, "one", "/bin/one")
		r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
		if got := strings.Contains(strings.Join(r.NotProved, "\n"), "starts were missed"); got != says {
			t.Errorf("%s missed: not proved are %q", what, r.NotProved)
		}
	}
	// Nothing allows classes that can't be read.
	for _, body := range []string{`{}`, `{"classes":[]}`, `{"classes":"privileged"}`, `{"why":"?"}`} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpPower, body)
		w.launch(idOne, "one", "/bin/one")
		bundle, opts := encode(t, w.evidence(idOne)), w.options()
		opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
		opts.Policy.Power.Allow = []string{"privileged"}
		expect(t, appraiseT(t, bundle, opts), NotTrusted, StepPower)
	}
}

// TestLastCounts: a required daemon or configuration that was replaced is no
// longer in force.
func TestLastCounts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	w.launch(idOne, "one", "/bin/one")
	fits := policyOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	of := func(operation, member, value string) policy.EventPattern {
		return policy.EventPattern{Operation: operation, Match: map[string]any{member: value}}
	}
	fits.Required = []policy.EventPattern{of("start", "version", "1"), of("policy", "sha384", "aa")}
	opts := w.options()
	opts.Policy = fits
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	w.public(logs.OpPolicy, `{"sha384":"bb"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	fits.Forbidden = []policy.EventPattern{of("policy", "sha384", "bb")}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	fits.Forbidden = nil
	key := base64.StdEncoding.EncodeToString(publicOf(w.key))
	w.public(logs.OpStart, `{"version":"0","agent_key":"`+key+`","boot_id":"x"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
}
