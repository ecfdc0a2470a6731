package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// TestIndependentCheckOfLies: what a log and claims that the agent's key signed
// must agree in, check.py finds in the manual as we do.
func TestIndependentCheckOfLies(t *testing.T) {
	other := newKey(9)
	image := func(w *world) {
		w.own(idOne, logs.OpImage, `{"reference":"registry/one:1","digest":"`+imageDigestOf("one")+`"}`)
	}
	named := func(c *rpc.Claims) { c.Agent = sum384(publicOf(other)) }
	dir := t.TempDir()
	var files []string
	var taken []bool // by us
	for name, c := range map[string]struct {
		log    func(w *world)      // before the claims
		claim  func(c *rpc.Claims) // nil: the truth
		later  func(w *world)      // before the quote
		others bool                // another key signs
		want   bool
	}{
		"the truth":                   {want: true},
		"restarted with its key":      {log: func(w *world) { w.start(w.key) }, want: true},
		"restarted with another":      {log: func(w *world) { w.start(other) }, claim: named, others: true, want: true},
		"the former key":              {log: func(w *world) { w.start(other) }},
		"a key of later":              {later: func(w *world) { w.start(other) }, claim: named, others: true},
		"started again, old key":      {later: func(w *world) { w.start(other) }, want: true},
		"two images":                  {log: image},
		"ended":                       {log: func(w *world) { w.own(idOne, logs.OpExit, "") }},
		"ended, started again":        {log: func(w *world) { w.own(idOne, logs.OpExit, ""); w.launch(idOne, "one", "/bin/x") }, want: true},
		"launched, no image":          {log: func(w *world) { w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0}`) }},
		"another image":               {claim: func(c *rpc.Claims) { c.Container.Image = "registry/two:1" }},
		"another image's digest":      {claim: func(c *rpc.Claims) { c.Container.ImageDigest = imageDigestOf("two") }},
		"no image":                    {claim: func(c *rpc.Claims) { c.Container.Image = "" }},
		"another owner of the cgroup": {claim: func(c *rpc.Claims) { c.Container.Assurance.CgroupOwner = 7 }},
		"another anchor":              {claim: func(c *rpc.Claims) { c.Log.Anchor = "rtmr2" }},
		"report-data":                 {claim: func(c *rpc.Claims) { c.Log.Anchor = policy.AnchorReportData }, want: true},
		"report-data, and later":      {claim: func(c *rpc.Claims) { c.Log.Anchor = policy.AnchorReportData }, later: image},
		"a power of later":            {later: func(w *world) { w.public(logs.OpPower, `{"classes":["privileged"]}`) }, want: true},
		"view of all":                 {claim: func(c *rpc.Claims) { c.Log.View = rpc.ViewWhole }, want: true},
		"no events":                   {claim: func(c *rpc.Claims) { c.Log.Count = 0 }},
		"another container":           {claim: func(c *rpc.Claims) { c.Container.ID = idTwo }},
	} {
		w := newWorld(t, sim.Config{})
		w.launch(idOne, "one", "/bin/one")
		if c.log != nil {
			c.log(w)
		}
		claims, key := w.claims(idOne), w.key
		if c.claim != nil {
			c.claim(claims)
		}
		if c.later != nil {
			c.later(w)
		}
		if c.others {
			key = other
		}
		bundle := encode(t, w.seal(claims, key))
		file := filepath.Join(dir, fmt.Sprintf("%d %s.json", len(files), strings.ReplaceAll(name, "/", "-")))
		if err := os.WriteFile(file, bundle, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		taken = append(taken, appraiseT(t, bundle, w.options()).Verdict == NotTrusted)
		if got := taken[len(taken)-1]; got != c.want {
			t.Errorf("%s: taken %v", name, got)
		}
	}
	checkAgrees(t, files, taken)
}
