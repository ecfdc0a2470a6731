package daemon

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

func TestReload(t *testing.T) {
	f := newFixture(t)
	write := func(text string) {
		if err := os.WriteFile(f.configFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	policies := func() (digests []string) {
		for _, e := range f.events() {
			if e.Operation == logs.OpPolicy {
				digests = append(digests, string(e.Body()))
			}
		}
		return digests
	}
	write("[launch]\npublic = [\"A\"]\n")
	if err := f.daemon.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := policies(); len(p) != 2 || p[0] == p[1] || f.daemon.config().Launch.Public == nil {
		t.Errorf("policies %v", p)
	}
	for _, bad := range []string{"[launch]\npublic = [\"A=b\"]\n", "x = 1\n", "anchor = \"report-data\"\n"} {
		write(bad)
		if err := f.daemon.reload(t.Context()); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if p := policies(); len(p) != 2 || f.daemon.config().Launch.Public == nil {
		t.Errorf("a bad file changed the policy: %v", p)
	}
}

func TestDeniedToHostProcesses(t *testing.T) {
	f := newFixture(t, func(c *config.Config) {
		c.Access = []config.AccessRule{{Deny: []string{rpc.MethodGetEvidence}}}
	})
	_, err := f.evidence()
	wantCode(t, err, rpc.CodeDenied)
	_, err = f.client().ExtendMeasurement(t.Context(), rpc.ExtendParams{Domain: "d", Operation: "o", Content: "c"})
	wantCode(t, err, rpc.CodeDenied)
}

// A container extends its own register where the policy grants it, and its
// evidence has the event.
func TestExtendInDocker(t *testing.T) {
	const event = `{"domain":"app.example","operation":"model","content":"sha256:00"}`
	t.Run("not granted", func(t *testing.T) {
		f := dockerFixture(t)
		if _, err := f.inContainer(nil, "call", rpc.MethodExtendMeasurement, event); err == nil || !strings.Contains(err.Error(), "isn't granted") {
			t.Fatalf("extend without a grant: %v", err)
		}
	})
	f := dockerFixture(t, func(c *config.Config) {
		c.Access = []config.AccessRule{{Image: "*" + testImage, Allow: []string{rpc.MethodExtendMeasurement}}}
	})
	hold := f.hold()
	call := func(method, params string) []byte {
		return []byte(docker(t, "exec", hold, "/cimactl", "call", method, params))
	}
	before := decode[rpc.CCMeasurement](t, call(rpc.MethodGetCCMeasurement, `{"index":3}`))
	extended := decode[rpc.Extended](t, call(rpc.MethodExtendMeasurement, event))
	after := decode[rpc.CCMeasurement](t, call(rpc.MethodGetCCMeasurement, `{"index":3}`))
	if before.Hash.Extend(extended.Digest) != after.Hash || extended.Index != 3 {
		t.Errorf("register %v, extended by %v, is %v", before.Hash, extended.Digest, after.Hash)
	}
	for _, bad := range []string{
		`{"domain":"a b","operation":"o","content":""}`,
		`{"domain":"a","operation":"o","content":"x\ny"}`,
		`{"domain":"a","operation":"o","content":"` + strings.Repeat("x", 4<<10+1) + `"}`,
	} {
		if _, err := f.inContainer(nil, "call", rpc.MethodExtendMeasurement, bad); err == nil {
			t.Errorf("taken: %.60s", bad)
		}
	}
	bundle := []byte(docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	f.wantAuthentic(bundle)
	if n := countEvents(t, bundle, logs.OpExtend); n != 1 {
		t.Errorf("%d extend events", n)
	}
}

// A denial by image applies to the very first call, before the container's
// image is known, and so does a grant.
func TestAccessOfTheFirstCallInDocker(t *testing.T) {
	f := dockerFixture(t, func(c *config.Config) {
		c.Access = []config.AccessRule{
			{Image: "*" + testImage, Deny: []string{rpc.MethodGetEvidence}},
			{Image: "*" + testImage, Allow: []string{rpc.MethodExtendMeasurement}},
		}
	})
	if _, err := f.inContainer(nil, "evidence", "--nonce", hex.EncodeToString(nonce)); err == nil || !strings.Contains(err.Error(), "policy denies") {
		t.Errorf("a denied first call: %v", err)
	}
	if _, err := f.inContainer(nil, "call", rpc.MethodExtendMeasurement, `{"domain":"d","operation":"o","content":"c"}`); err != nil {
		t.Errorf("a granted first call: %v", err)
	}
}

func TestAdminInDocker(t *testing.T) {
	f := dockerFixture(t)
	hold := f.hold()
	admin, err := rpc.Dial(t.Context(), filepath.Join(f.dir, "cima-admin", "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	daemontest.Eventually(t, "the container is measured", func() bool { return f.operations(hold) == "launch image" })
	list, err := admin.ListContainers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range list.Containers {
		if c.ID == hold {
			found = c.Running && c.Register != nil && c.Events == 2 && c.Image != "" && c.NotReady == "" && slices.Equal(c.Power, []string{"unseen-start"})
		}
	}
	if !found {
		t.Errorf("containers: %+v", list)
	}
	var bundle rawJSON
	if err := admin.Container(hold).Call(t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce}, &bundle); err != nil {
		t.Fatal(err)
	}
	f.wantAuthentic(bundle)
	if c := claimsOf(t, bundle).Container; c == nil || c.ID != hold || c.Assurance.PIDFD {
		t.Errorf("claims for root about a container: %+v", c)
	}
	err = admin.Container(strings.Repeat("0", 64)).Call(t.Context(), rpc.MethodWhoAmI, rpc.NoParams{}, nil)
	wantCode(t, err, rpc.CodeInvalidParams)
	status, err := admin.GetStatus(t.Context())
	if err != nil || !status.Ready || !status.Log.Consistent || status.Log.Count < 5 || !slices.Equal(status.Power, []string{"unseen-start"}) || status.Calls[rpc.MethodGetEvidence] != 1 {
		t.Errorf("status %+v, %v", status, err)
	}
	// any process of the container is looked up by its number, and by no other's
	lookup, err := rpc.Dial(t.Context(), filepath.Join(f.dir, "cima-lookup", "lookup.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lookup.Close()
	pid, err := strconv.Atoi(docker(t, "inspect", "--format", "{{.State.Pid}}", hold))
	if err != nil {
		t.Fatal(err)
	}
	who, err := lookup.LookUpProcess(t.Context(), rpc.ProcessParams{PID: pid})
	if err != nil || who.Container == nil || who.Container.ID != hold || who.Container.LaunchDigest == nil || who.Host != nil {
		t.Fatalf("the container's first process: %+v, %v", who, err)
	}
	// no gate stands in this test: nobody saw the start, and that is said
	if !slices.Contains(who.Power, "unseen-start") {
		t.Errorf("power %q", who.Power)
	}
	_, err = lookup.LookUpProcess(t.Context(), rpc.ProcessParams{PID: pid, Started: who.Started + 1})
	wantCode(t, err, rpc.CodeUnattributed)
	if _, err := f.inContainer([]string{"-v", filepath.Join(f.dir, "cima-lookup") + ":/run/cima-lookup"},
		"--socket", "/run/cima-lookup/lookup.sock", "call", rpc.MethodWhoAmI); err == nil || !strings.Contains(err.Error(), "processes of the host only") {
		t.Errorf("a container on the look-up socket: %v", err)
	}
	// the admin socket gives a container no access
	if _, err := f.inContainer([]string{"-v", filepath.Join(f.dir, "cima-admin") + ":/run/cima-admin"},
		"--socket", "/run/cima-admin/admin.sock", "call", rpc.MethodGetStatus); err == nil || !strings.Contains(err.Error(), "root on the host only") {
		t.Errorf("a container on the admin socket: %v", err)
	}
}
