package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	"github.com/spiffe/spire-plugin-sdk/plugintest"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// SPIRE's test kit waits for the plug-in's process, which is this one, and for brokers that
// nobody dials.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin/internal/cmdrunner.pidWait"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).timeoutWait"))
}

const (
	domain = "example.org"
	unit   = "spire-agent.service"
)

// server is a server's half, served as SPIRE serves it, that trusts one TD.
type server struct {
	td     *verifytest.TD
	client nodeattestorv1.NodeAttestorPluginClient
	config configv1.ConfigServiceClient
	dir    string
}

// start serves one plug-in for both services, and configures it.
func start(t *testing.T) *server {
	t.Helper()
	s := &server{td: verifytest.Boot(t, sim.Config{}), dir: t.TempDir()}
	p := NewServer()
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer:   nodeattestorv1.NodeAttestorPluginServer(p),
		PluginClient:   &s.client,
		ServiceServers: []pluginsdk.ServiceServer{configv1.ConfigServiceServer(p)},
		ServiceClients: []pluginsdk.ServiceClient{&s.config},
	})
	nonce := bytes.Repeat([]byte{7}, 32)
	text, _ := s.td.Policy(s.td.Appraise(s.td.HostEvidence(unit, nonce, nil), nonce, nil))
	s.write(t, "policy.toml", string(text))
	s.write(t, "root.pem", string(s.td.Root()))
	_, err := s.config.Configure(t.Context(), &configv1.ConfigureRequest{
		HclConfiguration:  fmt.Sprintf("policy = %q\ntrust_root = %q\n", s.path("policy.toml"), s.path("root.pem")),
		CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: domain},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// attest plays an agent that answers the challenge so.
func (s *server) attest(t *testing.T, first string, answer func(nonce []byte) []byte) (*nodeattestorv1.AgentAttributes, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := s.client.Attest(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&nodeattestorv1.AttestRequest{Request: &nodeattestorv1.AttestRequest_Payload{Payload: []byte(first)}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	challenge, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	err = stream.Send(&nodeattestorv1.AttestRequest{Request: &nodeattestorv1.AttestRequest_ChallengeResponse{ChallengeResponse: answer(challenge.GetChallenge())}})
	if err != nil {
		return nil, err
	}
	r, err := stream.Recv()
	return r.GetAgentAttributes(), err
}

func data(t *testing.T, domain string) []byte {
	t.Helper()
	d, err := userData(domain)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A node has one ID for as long as it runs, and another agent's half, another domain's or
// another container's evidence gives none.
func TestAttest(t *testing.T) {
	s := start(t)
	honest := func(nonce []byte) []byte { return s.td.HostEvidence(unit, nonce, data(t, domain)) }
	node, err := s.attest(t, payload, honest)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(node.SpiffeId, "spiffe://example.org/spire/agent/cima/") || len(node.SpiffeId) != 38+96 || !node.CanReattest {
		t.Errorf("%+v", node)
	}
	for _, want := range []string{"uid:0", "unit:" + unit, "power:none"} {
		if !slices.Contains(node.SelectorValues, want) {
			t.Errorf("no %q in %q", want, node.SelectorValues)
		}
	}
	if !slices.ContainsFunc(node.SelectorValues, func(v string) bool { return strings.HasPrefix(v, "mrtd:") }) ||
		!slices.ContainsFunc(node.SelectorValues, func(v string) bool { return strings.HasPrefix(v, "boot:") }) {
		t.Errorf("selectors %q", node.SelectorValues)
	}
	id := s.td.Launch("a", "image", "x")
	again, err := s.attest(t, payload, honest)
	if err != nil || again.SpiffeId != node.SpiffeId {
		t.Errorf("the second time: %v, %v", again, err)
	}
	other := verifytest.Boot(t, sim.Config{})
	for what, c := range map[string]struct {
		first  string
		answer func(nonce []byte) []byte
		code   codes.Code
	}{
		"no payload":     {"", honest, codes.InvalidArgument},
		"another's":      {"{}", honest, codes.InvalidArgument},
		"no evidence":    {payload, func([]byte) []byte { return nil }, codes.InvalidArgument},
		"no JSON":        {payload, func([]byte) []byte { return []byte("x") }, codes.PermissionDenied},
		"another nonce":  {payload, func(n []byte) []byte { return honest(append([]byte{n[0] + 1}, n[1:]...)) }, codes.PermissionDenied},
		"another domain": {payload, func(n []byte) []byte { return s.td.HostEvidence(unit, n, data(t, "example.com")) }, codes.PermissionDenied},
		"no user data":   {payload, func(n []byte) []byte { return s.td.HostEvidence(unit, n, nil) }, codes.PermissionDenied},
		"another unit":   {payload, func(n []byte) []byte { return s.td.HostEvidence("x.service", n, data(t, domain)) }, codes.PermissionDenied},
		"no unit":        {payload, func(n []byte) []byte { return s.td.HostEvidence("", n, data(t, domain)) }, codes.PermissionDenied},
		"a container":    {payload, func(n []byte) []byte { return s.td.Evidence(id, n, data(t, domain)) }, codes.PermissionDenied},
		"another root":   {payload, func(n []byte) []byte { return other.HostEvidence(unit, n, data(t, domain)) }, codes.PermissionDenied},
	} {
		node, err := s.attest(t, c.first, c.answer)
		if node != nil || status.Code(err) != c.code {
			t.Errorf("%s: %v, %v, want %v", what, node, err, c.code)
		}
	}
}

// A container of the policy's own kind is no node: even a policy that knows it.
func TestContainerIsNoNode(t *testing.T) {
	s := start(t)
	id := s.td.Launch("a", "image", "x")
	nonce := make([]byte, 32)
	rand.Read(nonce)
	r := s.td.Appraise(s.td.Evidence(id, nonce, nil), nonce, nil)
	text, _ := s.td.Policy(r)
	s.write(t, "policy.toml", string(text))
	_, err := s.attest(t, payload, func(n []byte) []byte { return s.td.Evidence(id, n, data(t, domain)) })
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "of a container") {
		t.Error(err)
	}
}

// A node needs a register that holds its log: of an SNP guest that is a TPM's in a paravisor.
func TestGuestsAsNodes(t *testing.T) {
	guestOf := func(anchor string) *verify.Result {
		r := &verify.Result{Guest: &guest.Guest{}, Boot: &policy.Boot{Name: "b", VTPM: "v"}, Claims: &rpc.Claims{Host: &rpc.HostClaims{Unit: unit}},
			Events: []verify.Event{{Operation: logs.OpStart}}}
		r.Guest.Measurement[0], r.Claims.Log.Anchor = 0xab, anchor
		return r
	}
	if node, err := describe(domain, guestOf(logs.AnchorReportData)); err == nil || !strings.Contains(err.Error(), "no register holds its log") {
		t.Errorf("without a register: %v, %v", node, err)
	}
	node, err := describe(domain, guestOf(logs.AnchorPCR))
	if err != nil || !slices.Contains(node.SelectorValues, "measurement:ab"+strings.Repeat("0", 94)) || !slices.Contains(node.SelectorValues, "vtpm:v") {
		t.Errorf("%+v, %v", node, err)
	}
}

// The folder of collateral is Intel's and AMD's.
func TestCollateralOfBoth(t *testing.T) {
	s := start(t)
	n, err := readServer(domain, fmt.Sprintf("policy = %q\ncollateral = %q", s.path("policy.toml"), s.dir))
	if err != nil {
		t.Fatal(err)
	}
	if opts, err := n.options(); err != nil || opts.Collateral == nil || opts.AMD == nil {
		t.Errorf("%v, %v, %v", opts.Collateral, opts.AMD, err)
	}
}

// Power that appears on a node takes it away, unless the policy allows its kind; a changed
// policy counts at once.
func TestPowerOfANode(t *testing.T) {
	s := start(t)
	honest := func(nonce []byte) []byte { return s.td.HostEvidence(unit, nonce, data(t, domain)) }
	s.td.Power("mount:ext4")
	if _, err := s.attest(t, payload, honest); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "mount:ext4") {
		t.Errorf("power: %v", err)
	}
	text, err := os.ReadFile(s.path("policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "policy.toml", strings.Replace(string(text), "allow = []", "allow = []\nallow_kinds = [\"mount\"]", 1))
	node, err := s.attest(t, payload, honest)
	if err != nil || !slices.Contains(node.SelectorValues, "power:mount:ext4") || slices.Contains(node.SelectorValues, "power:none") {
		t.Errorf("allowed: %v, %v", node, err)
	}
	s.td.Power("host-write:/etc")
	if _, err := s.attest(t, payload, honest); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another kind: %v", err)
	}
	if err := os.Remove(s.path("policy.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.attest(t, payload, honest); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("without a policy: %v", err)
	}
}

func TestNotConfigured(t *testing.T) {
	s := &server{}
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer: nodeattestorv1.NodeAttestorPluginServer(NewServer()), PluginClient: &s.client,
	})
	if _, err := s.attest(t, payload, nil); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	s := start(t)
	core := &configv1.CoreConfiguration{TrustDomain: domain}
	for text, want := range map[string]string{
		"": "there must be policy", `policy = "` + s.path("none") + `"`: "no such file", `policies = "x"`: "no key",
		`policy = "` + s.path("root.pem") + `"`:                                                   "root.pem",
		fmt.Sprintf("policy = %q\ntrust_root = %q", s.path("policy.toml"), s.path("policy.toml")): "policy.toml",
		fmt.Sprintf("policy = %q\ncollateral = %q", s.path("policy.toml"), s.path("root.pem")):    "must be a directory",
		fmt.Sprintf("policy = %q\nrevocations = %q", s.path("policy.toml"), s.path("none")):       "no such file",
	} {
		_, err := s.config.Configure(t.Context(), &configv1.ConfigureRequest{HclConfiguration: text, CoreConfiguration: core})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		v, err := s.config.Validate(t.Context(), &configv1.ValidateRequest{HclConfiguration: text, CoreConfiguration: core})
		if err != nil || v.Valid || len(v.Notes) != 1 {
			t.Errorf("%q: %v, %v", text, v, err)
		}
	}
	if _, err := readServer("", ""); !errors.Is(err, errNoDomain) {
		t.Error(err)
	}
	if _, err := readAgent("", ""); !errors.Is(err, errNoDomain) {
		t.Error(err)
	}
	v, err := s.config.Validate(t.Context(), &configv1.ValidateRequest{HclConfiguration: fmt.Sprintf("policy = %q", s.path("policy.toml")), CoreConfiguration: core})
	if err != nil || !v.Valid {
		t.Error(v, err)
	}
}
