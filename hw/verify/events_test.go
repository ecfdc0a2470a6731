package verify

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
)

func TestPower(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPower, `{"classes":["privileged","device:c:*:*"]}`)
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	made := textOf(t, appraiseT(t, bundle, opts))
	for allow, fits := range map[string]bool{"[]": false, `["device:c:*:*"]`: false, `["device:c:*:*", "privileged", "no-metadata"]`: true} {
		opts.Policy = parsePolicy(t, replaced(t, made, "allow = []", "allow = "+allow))
		if r := appraiseT(t, bundle, opts); fits {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, StepPower)
		}
	}

	// A container whose start was missed could have had any power.
	for what, says := range map[string]bool{"exec": false, "launch": true} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpMissed, `{"count":1,"what":"`+what+`","why":"x"}`)
		w.launch(idOne, "one", "/bin/one")
		r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
		if got := strings.Contains(texts(r.NotProved), "starts were missed"); got != says {
			t.Errorf("%s missed: not proved are %+v", what, r.NotProved)
		}
		// Its own policy waives that, and forbids the event.
		opts, made := w.options(), textOf(t, r)
		opts.Policy = parsePolicy(t, strings.Replace(made, "[[forbidden]]", "[[forbidden]]\nmatch.why = \"y\"", 1))
		expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
		if says {
			opts.Policy = parsePolicy(t, made)
			expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
			opts.Policy = parsePolicy(t, strings.Replace(made, `   "missed-launch",`, "", 1))
			expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents, StepNotProved)
		}
	}
	// Nothing allows classes that can't be read.
	for _, body := range []string{`{}`, `{"classes":[]}`, `{"classes":"privileged"}`, `{"why":"?"}`} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpPower, body)
		w.launch(idOne, "one", "/bin/one")
		bundle, opts := encode(t, w.evidence(idOne)), w.options()
		opts.Policy = parsePolicy(t, replaced(t, textOf(t, appraiseT(t, bundle, opts)), "allow = []", "allow = [\"privileged\"]"))
		expect(t, appraiseT(t, bundle, opts), NotTrusted, StepPower)
	}
}

// TestLastCounts: a required daemon or configuration that was replaced is no
// longer in force.
func TestLastCounts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	w.launch(idOne, "one", "/bin/one")
	fits := textOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options())) +
		"[[required]]\noperation = \"start\"\nmatch.version = \"1\"\n[[required]]\noperation = \"policy\"\nmatch.sha384 = \"aa\"\n"
	opts := w.options()
	opts.Policy = parsePolicy(t, fits)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	w.public(logs.OpPolicy, `{"sha384":"bb"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	opts.Policy = parsePolicy(t, fits+"[[forbidden]]\noperation = \"policy\"\nmatch.sha384 = \"bb\"\n")
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	opts.Policy = parsePolicy(t, fits)
	key := base64.StdEncoding.EncodeToString(publicOf(w.key))
	w.public(logs.OpStart, `{"version":"0","agent_key":"`+key+`","boot_id":"x"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
}
