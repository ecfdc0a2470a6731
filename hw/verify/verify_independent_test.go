package verify

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// imaTexts are entries of every template, without register and template hash.
var imaTexts = []string{
	"ima-ng sha256:" + strings.Repeat("07", 32) + " boot_aggregate",
	"ima-ng sha384:" + strings.Repeat("ab", 48) + " /usr/lib/é_and_more",
	"ima-sig sha256:" + strings.Repeat("07", 32) + " /usr/bin/true 0302047369676e6174757265",
	"ima-sig sha256:" + strings.Repeat("07", 32) + " /usr/bin/unsigned ",
	"ima-ngv2 verity:sha256:" + strings.Repeat("02", 32) + " /usr/bin/true",
	"ima-sigv2 ima:sha512:" + strings.Repeat("02", 64) + " /usr/bin/true 736967",
	"ima-buf sha256:" + strings.Repeat("07", 32) + " kernel_version 362e31362e30",
	"ima-modsig sha256:" + strings.Repeat("07", 32) + " /usr/bin/true  sha256:" + strings.Repeat("03", 32) + " 706b637337",
	"evm-sig sha256:" + strings.Repeat("07", 32) + " /usr/bin/true 65766d security.ima|security.selinux 01000000 76 1000 100 33188",
	"ima-cgpath /usr/bin/runc:swapper/0 /docker/x sha256:" + strings.Repeat("07", 32) + " /usr/bin/true",
	"ima-dep-cgn /usr/bin/runc docker-x.scope sha256:" + strings.Repeat("07", 32) + " /usr/bin/true",
	"n-ng|d-ng|imode /usr/bin/true sha256:" + strings.Repeat("07", 32) + " 493",
	"d-ng|n-ng " + strings.Repeat("07", 20) + " /without-algorithm",
}

// TestIndependentCheckOfIMA: check.py, which follows cima-evidence(7) and
// shares no code with us, reads and refuses IMA's lines as we do.
func TestIndependentCheckOfIMA(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	var log []byte
	for _, text := range imaTexts {
		for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA256} {
			line := imaLineOf(t, hash, text)
			log = append(log, line...)
			e := imaEntryOf(t, line)
			digest, _, err := e.RTMR2Digest()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.td.ExtendRTMR(t.Context(), 2, digest); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	var files []string
	var taken []bool // accepted by us
	try := func(log []byte) {
		e := w.evidence(idOne)
		e.OSLogs = osLog(log)
		name := filepath.Join(dir, fmt.Sprintf("%d.json", len(files)))
		bundle := rawEncode(t, e)
		if err := os.WriteFile(name, bundle, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
		taken = append(taken, appraiseT(t, bundle, w.options()).Step(StepBootLog).Outcome == Pass)
	}
	try(log)
	if !taken[0] {
		t.Fatal("the whole log is not taken")
	}
	const seed = 3
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 300 {
		changed := bytes.Clone(log)
		changed[random.IntN(len(log))] ^= 1 << random.IntN(8)
		try(changed)
	}
	first, rest, _ := bytes.Cut(log, []byte("\n"))
	for _, changed := range [][]byte{rest, append(bytes.Clone(log), first...), append(append(bytes.Clone(log), first...), '\n'), log[:len(log)-1],
		append(bytes.Clone(log), imaLineOf(t, crypto.SHA384, "ima "+strings.Repeat("07", 20)+" /the/oldest template")...)} {
		try(changed)
	}
	checkAgrees(t, files, taken)
}

// checkAgrees runs check.py over bundles; it must accept those that we
// accepted.
func checkAgrees(t *testing.T, files []string, taken []bool) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("left out: no python3")
	}
	out, _ := exec.Command(python, append([]string{"../../rpc/vectors/check.py"}, files...)...).Output()
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(words) != len(files) {
		t.Fatalf("%d answers to %d bundles", len(words), len(files))
	}
	for i, word := range words {
		if strings.Contains(word, ".json: agrees") != taken[i] {
			t.Errorf("taken by us: %v; %s", taken[i], word)
		}
	}
}

// imaLineOf is an entry's line, with its template hash.
func imaLineOf(t *testing.T, hash crypto.Hash, text string) []byte {
	t.Helper()
	data, err := imaEntryOf(t, []byte("10 "+strings.Repeat("01", 48)+" "+text+"\n")).AppendTemplateData(nil)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	h := hash.New()
	h.Write(data)
	return fmt.Appendf(nil, "10 %x %s\n", h.Sum(nil), text)
}

func imaEntryOf(t *testing.T, line []byte) *ima.Entry {
	t.Helper()
	e, err := ima.NewReader(bytes.NewReader(line)).Next()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return e
}

// TestIndependentCheckOfLies: check.py, from the manual alone, finds the same
// contradictions as we do between a log and claims that the agent's key signed.
func TestIndependentCheckOfLies(t *testing.T) {
	other := newKey(9)
	image := func(w *world) {
		w.own(idOne, logs.OpImage, `{"reference":"registry/one:1","digest":"`+imageDigestOf("one")+`"}`)
	}
	launched := func(body string) func(w *world) {
		return func(w *world) {
			w.own(idOne, logs.OpLaunch, body)
			w.image(idOne, "one")
		}
	}
	named := func(c *rpc.Claims) { c.Agent = sum384(publicOf(other)) }
	dir := t.TempDir()
	var files []string
	var taken []bool // accepted by us
	for name, c := range map[string]struct {
		log    func(w *world)      // before the claims
		claim  func(c *rpc.Claims) // nil: true claims
		later  func(w *world)      // before the quote
		others bool                // another key signs
		want   bool
	}{
		"the truth":              {want: true},
		"restarted with its key": {log: func(w *world) { w.start(w.key) }, want: true},
		"restarted with another": {log: func(w *world) { w.start(other) }, claim: named, others: true, want: true},
		"the former key":         {log: func(w *world) { w.start(other) }},
		"a key of later":         {later: func(w *world) { w.start(other) }, claim: named, others: true},
		"started again, old key": {later: func(w *world) { w.start(other) }, want: true},
		"two images":             {log: image},
		"ended":                  {log: func(w *world) { w.own(idOne, logs.OpExit, "") }},
		"ended, started again":   {log: func(w *world) { w.own(idOne, logs.OpExit, ""); w.launch(idOne, "one", "/bin/x") }, want: true},
		"launched, no image": {log: func(w *world) {
			w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{}}`)
		}},
		"an earlier launch":           {log: launched(earlierLaunch), want: true},
		"a launch too large":          {log: launched(`{"source":"bundle","cgroup_owner":0,"asked_sha384":"` + strings.Repeat("0a", 48) + `","defaults_sha384":"` + strings.Repeat("0b", 48) + `"}`), want: true},
		"a launch that nobody read":   {log: launched(`{"source":"none","cgroup_owner":0}`), want: true},
		"facts that nobody read":      {log: launched(`{"source":"none","cgroup_owner":0,"limits":{}}`)},
		"limits and an entrypoint":    {log: launched(`{"source":"user","cgroup_owner":0,"asked":{},"defaults":{},"limits":{"a":1},"entrypoint":{"path":"/a"}}`), want: true},
		"an unknown member":           {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{},"more":1}`)},
		"an unknown fact":             {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{"more":1},"defaults":{}}`)},
		"an unknown default":          {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{"more":1}}`)},
		"no defaults":                 {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{}}`)},
		"another image's config":      {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{},"image_config":"` + imageDigestOf("two") + `"}`)},
		"no image's config":           {log: launched(`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{},"image_config":"two"}`)},
		"no launch digest":            {claim: func(c *rpc.Claims) { c.Container.LaunchDigest = rpc.Digest{} }},
		"another launch digest":       {claim: func(c *rpc.Claims) { c.Container.LaunchDigest[0] ^= 1 }},
		"another defaults digest":     {claim: func(c *rpc.Claims) { c.Container.DefaultsDigest[0] ^= 1 }},
		"a launch digest too many":    {log: launched(earlierLaunch), claim: func(c *rpc.Claims) { c.Container.LaunchDigest[0] ^= 1 }},
		"mounted":                     {log: func(w *world) { w.own(idOne, logs.OpMounted, `{"mounts":[{"destination":"/a","place":"/b"}]}`) }, want: true},
		"mounted, no places":          {log: func(w *world) { w.own(idOne, logs.OpMounted, `{"mounts":[]}`) }},
		"mounted, an unknown member":  {log: func(w *world) { w.own(idOne, logs.OpMounted, `{"mounts":[{"destination":"/a","place":"/b","c":1}]}`) }},
		"another image":               {claim: func(c *rpc.Claims) { c.Container.Image = "registry/two:1" }},
		"another image's digest":      {claim: func(c *rpc.Claims) { c.Container.ImageDigest = imageDigestOf("two") }},
		"no image":                    {claim: func(c *rpc.Claims) { c.Container.Image = "" }},
		"another owner of the cgroup": {claim: func(c *rpc.Claims) { c.Container.Assurance.CgroupOwner = 7 }},
		"another anchor":              {claim: func(c *rpc.Claims) { c.Log.Anchor = "rtmr2" }},
		"report-data":                 {claim: func(c *rpc.Claims) { c.Log.Anchor = logs.AnchorReportData }, want: true},
		"report-data, and later":      {claim: func(c *rpc.Claims) { c.Log.Anchor = logs.AnchorReportData }, later: image},
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
