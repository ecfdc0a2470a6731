package verify

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

var testNonce = []byte("nonce of a test!")

const (
	idOne = "1111111111111111111111111111111111111111111111111111111111111111"
	idTwo = "2222222222222222222222222222222222222222222222222222222222222222"
)

// world is a simulated TD with an agent's log: it makes evidence as the daemon
// does, and as forgers would.
type world struct {
	t     testing.TB
	td    *sim.Machine
	key   ed25519.PrivateKey
	log   []logs.Event
	salts int
	other bool // another register than RTMR3 holds the log
}

func newWorld(t testing.TB, config sim.Config) *world {
	t.Helper()
	td, err := sim.Boot(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, td: td, key: newKey(1)}
	w.start(w.key)
	w.public(logs.OpSeal, `{"engines":["docker"]}`)
	return w
}

func newKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(key ed25519.PrivateKey) []byte { return key.Public().(ed25519.PublicKey) }

// twoContainers is the default world: one container, another, the first one
// again.
func twoContainers(t testing.TB) *world {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	w.launch(idTwo, "two", "/bin/two")
	w.own(idOne, logs.OpExtend, `{"domain":"app","operation":"load","content":"model"}`)
	return w
}

func (w *world) start(key ed25519.PrivateKey) {
	boot, err := w.td.BootID()
	if err != nil {
		w.t.Fatal(err)
	}
	w.public(logs.OpStart, fmt.Sprintf(`{"version":"1","agent_key":%q,"boot_id":%q}`,
		base64.StdEncoding.EncodeToString(publicOf(key)), boot))
}

func (w *world) public(operation, body string) {
	w.append(operation, logs.Content{Measured: measured(operation, body)})
}

func (w *world) own(id, operation, body string) {
	w.salts++
	salt := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "salt%012d", w.salts))
	c := logs.Content{Container: id, Salt: salt}
	if body != "" {
		c.Measured = measured(operation, body)
	}
	w.append(operation, c)
}

func measured(operation, body string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{%q:%s}`, operation, body))
}

func (w *world) append(operation string, c logs.Content) {
	w.t.Helper()
	e, err := logs.NewEvent(operation, c)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.other {
		// whoever has the register extends it
	} else if err := w.td.Extend(context.Background(), e.Digest()); err != nil {
		w.t.Fatal(err)
	}
	w.log = append(w.log, e)
}

func (w *world) launch(id, image, argument string) {
	w.asked(id, image, fmt.Sprintf(`{"arguments":[%q]}`, argument))
}

// asked launches a container with these facts.
func (w *world) asked(id, image, asked string) {
	w.own(id, logs.OpLaunch, fmt.Sprintf(`{"source":"bundle","cgroup_owner":0,"asked":%s,"defaults":{"umask":18},"image_config":%q}`, asked, imageDigestOf(image)))
	w.image(id, image)
}

func (w *world) image(id, image string) {
	w.own(id, logs.OpImage, fmt.Sprintf(`{"reference":"registry/%s:1","digest":%q,"layers":["sha256:aa"]}`, image, imageDigestOf(image)))
}

func imageDigestOf(image string) string {
	return fmt.Sprintf("sha256:%x", sha512.Sum512_256([]byte(image)))
}

func (w *world) roots() []*x509.Certificate {
	w.t.Helper()
	roots, err := dcap.ParseRoots(w.td.RootPEM())
	if err != nil {
		w.t.Fatal(err)
	}
	return roots
}

// claims are what the daemon would claim now for the container or, without an
// id, for a host process. They use nothing of the package under test but Digest
// arithmetic.
func (w *world) claims(id string) *rpc.Claims {
	w.t.Helper()
	boot := w.bootLog()
	c := &rpc.Claims{
		Profile: rpc.ClaimsProfile,
		Agent:   sha512.Sum384(w.key.Public().(ed25519.PublicKey)),
		Nonce:   testNonce,
		BootLog: sha512.Sum384(boot),
		Log:     rpc.LogClaims{Count: len(w.log), Anchor: "rtmr3"},
	}
	var register, public, container canonical.Digest
	var launch, image logs.Event
	for _, e := range w.log {
		register = register.Extend(e.Digest())
		d, ok := e.MeasuredDigest()
		switch {
		case e.Container == "":
			public = public.Extend(d)
		case e.Container == id && id != "":
			switch e.Operation {
			case logs.OpLaunch:
				launch, container = e, canonical.Digest{}
			case logs.OpImage:
				image = e
			}
			if ok {
				container = container.Extend(d)
			}
		}
	}
	c.Log.Register, c.Log.Public = register, public
	if id == "" {
		c.Host = &rpc.HostClaims{Unit: "a.service"}
		return c
	}
	var named struct{ Reference, Digest string }
	if err := json.Unmarshal(image.Body(), &named); err != nil {
		w.t.Fatal(err)
	}
	c.Container = &rpc.ContainerClaims{
		ID: id, Runtime: "docker", Image: named.Reference, ImageDigest: named.Digest, Register: container,
		Assurance: rpc.Assurance{Start: "gated", PIDFD: true, Metadata: "bundle+engine"},
	}
	c.Container.LaunchDigest, c.Container.DefaultsDigest = w.digests(launch.Body(), named.Digest)
	return c
}

// digests of a launch, by cima-evidence(7). One of an earlier version has none.
func (w *world) digests(launch []byte, image string) (whole, defaults rpc.Digest) {
	w.t.Helper()
	var l struct {
		Source         string          `json:"source"`
		CgroupOwner    int             `json:"cgroup_owner"`
		Asked          json.RawMessage `json:"asked"`
		Defaults       json.RawMessage `json:"defaults"`
		ImageConfig    string          `json:"image_config"`
		User           json.RawMessage `json:"user"` // an earlier version's
		AskedSHA384    rpc.Digest      `json:"asked_sha384"`
		DefaultsSHA384 rpc.Digest      `json:"defaults_sha384"`
	}
	if err := json.Unmarshal(launch, &l); err != nil {
		w.t.Fatal(err)
	}
	asked, defaults := l.AskedSHA384, l.DefaultsSHA384
	if l.Asked != nil {
		asked = sha512.Sum384(l.Asked)
	}
	if l.Defaults != nil {
		defaults = sha512.Sum384(l.Defaults)
	}
	if l.ImageConfig != "" {
		image = l.ImageConfig
	}
	of := fmt.Sprintf(`"cgroup_owner":%d,"image":{"config":%q},"source":%q}`, l.CgroupOwner, image, l.Source)
	switch {
	case l.User != nil:
		return whole, defaults
	case asked == (rpc.Digest{}):
		return sha512.Sum384([]byte("{" + of)), defaults
	}
	return sha512.Sum384(fmt.Appendf(nil, `{"asked":"%v",%s`, asked, of)), defaults
}

func (w *world) bootLog() []byte {
	w.t.Helper()
	raw, err := w.td.BootLog()
	if err != nil {
		w.t.Fatal(err)
	}
	trimmed, err := boot.Trim(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return trimmed
}

// view is the log as the caller may see it.
func (w *world) view(id string) []rpc.LogEntry {
	var view []rpc.LogEntry
	for _, e := range w.log {
		if e.Container == "" || e.Container == id {
			view = append(view, rpc.LogEntry{Event: e.Bytes()})
			continue
		}
		view = hide(view, e.Digest())
	}
	return view
}

func hide(view []rpc.LogEntry, digest [48]byte) []rpc.LogEntry {
	if n := len(view); n > 0 && view[n-1].Digests != nil {
		view[n-1].Digests = append(view[n-1].Digests, digest[:]...)
		return view
	}
	return append(view, rpc.LogEntry{Digests: bytes.Clone(digest[:])})
}

// seal makes the evidence from these claims, this key and the current log.
func (w *world) seal(c *rpc.Claims, key ed25519.PrivateKey) *rpc.Evidence {
	w.t.Helper()
	claims, err := canonical.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := rpc.ReportData(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	quote, err := w.td.Quote(context.Background(), hw.ReportData(data))
	if err != nil {
		w.t.Fatal(err)
	}
	id := ""
	if c.Container != nil {
		id = c.Container.ID
	}
	return &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "tdx", Quote: quote, Claims: claims,
		AgentSignature: rpc.SignReportData(key, data),
		BootLog:        w.bootLog(), RuntimeLog: w.view(id),
	}
}

func (w *world) evidence(id string) *rpc.Evidence { return w.seal(w.claims(id), w.key) }

func encode(t testing.TB, e *rpc.Evidence) []byte {
	t.Helper()
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) options() Options { return Options{Nonce: testNonce, TrustRoots: w.roots()} }

func appraiseT(t testing.TB, bundle []byte, opts Options) *Result {
	t.Helper()
	r, err := Appraise(context.Background(), bundle, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// textOf makes a policy from evidence that waives all that stands in the way.
func textOf(t testing.TB, r *Result) string {
	t.Helper()
	waive := []string{codes.HostUnknown}
	for _, g := range r.gaps {
		if c, _ := codes.Of(g.code); c.Stands {
			waive = append(waive, g.code)
		}
	}
	waive = append(waive, codes.Root, codes.LineOpens)
	text, _, err := InitPolicy([]*Result{r}, waive)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func policyOf(t testing.TB, r *Result) *policy.Policy {
	t.Helper()
	return parsePolicy(t, textOf(t, r))
}

func parsePolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

// replaced is a policy's text with one thing changed: pairs of old and new.
func replaced(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// without takes the lines out that have a word.
func without(t testing.TB, text string, words ...string) string {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Fatalf("%q is not in\n%s", word, text)
		}
		lines := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(l string) bool { return strings.Contains(l, word) && !strings.HasPrefix(l, "#") })
		text = strings.Join(lines, "")
	}
	return text
}

// anyLaunch allows any way of starting the image.
func anyLaunch(t testing.TB, text string) string {
	t.Helper()
	before, _, _ := strings.Cut(without(t, text, "launch = \""), "\n[[reference]]")
	return before
}

// bootText is a policy that knows a boot by the registers of a result, and no more.
func bootText(r *Result, more string) string {
	v := r.Registers
	return fmt.Sprintf("cima_policy = 2\nwaive = [\"collateral\",\"nonce\",\"root-not-covered\"]\n[firmware.f]\nmrtd=%q\nrtmr0=%q\n[system.s]\nrtmr1=%q\nrtmr2=%q\nroot=\"not covered\"\nhost_input=\"none\"\n%s\n[[boot]]\nname=\"one\"\nfirmware=\"f\"\nsystem=\"s\"\n",
		v.MRTD, v.RTMR[0], policy.ValueWord(v.RTMR[1]), policy.ValueWord(v.RTMR[2]), more)
}

// texts are the sentences of statements.
func texts(list []Statement) string {
	var lines []string
	for _, s := range list {
		lines = append(lines, s.Text)
	}
	return strings.Join(lines, "\n")
}

func osLog(entries []byte) []rpc.OSLog {
	return []rpc.OSLog{{Register: "rtmr2", Format: "ima-ascii", Entries: entries}}
}

// rawEncode writes evidence without checking it: claims that are no longer JSON
// are written as they are.
func rawEncode(t testing.TB, e *rpc.Evidence) []byte {
	t.Helper()
	claims := e.Claims
	copied := *e
	copied.Claims = json.RawMessage(`"CLAIMS"`)
	return bytes.Replace(encode(t, &copied), []byte(`"CLAIMS"`), claims, 1)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func le32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

func sum384(b []byte) hw.Digest { return sha512.Sum384(b) }

// whenMade is a time at which the certificates of go-tdx-guest's quotes were good.
var whenMade = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// cut removes the buffer after a quote.
func cut(t testing.TB, buffer []byte) []byte {
	t.Helper()
	n, err := dcap.QuoteLength(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}
