package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	agentnodev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	workloadv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	servernodev1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	agentnode "github.com/spiffe/spire/pkg/agent/plugin/nodeattestor"
	"github.com/spiffe/spire/pkg/agent/plugin/workloadattestor"
	"github.com/spiffe/spire/pkg/common/catalog"
	servernode "github.com/spiffe/spire/pkg/server/plugin/nodeattestor"
	"github.com/spiffe/spire/test/plugintest"
	"github.com/spiffe/spire/test/spiretest"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/packaging/spire/node"
	"github.com/cima-project/cima/packaging/spire/workload"
	"github.com/cima-project/cima/rpc"
)

// SPIRE's own facades take the plug-ins as they take those that are built in: this is the
// kit by which SPIRE tests those (test/plugintest, test/spiretest).

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var core = catalog.CoreConfig{TrustDomain: spiffeid.RequireTrustDomainFromString("example.org")}

// cimad answers each request with what a test says.
func cimad(t *testing.T, answer func(method string, params jsontext.Value) string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					var r struct {
						ID     int            `json:"id"`
						Method string         `json:"method"`
						Params jsontext.Value `json:"params"`
					}
					if json.Unmarshal(lines.Bytes(), &r) != nil {
						return
					}
					fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,%s}`+"\n", r.ID, answer(r.Method, r.Params))
				}
			}()
		}
	}()
	return socket
}

func TestWorkloadAttestor(t *testing.T) {
	socket := cimad(t, func(_ string, params jsontext.Value) string {
		if strings.Contains(string(params), "123") {
			return `"result":{"pid":123,"started":1,"host":{"unit":"a.service","uid":7}}`
		}
		return `"error":{"code":-32001,"message":"no process"}`
	})
	load := func(options ...plugintest.Option) *workloadattestor.V1 {
		p, v1 := workload.New(), new(workloadattestor.V1)
		plugintest.Load(t, catalog.MakeBuiltIn("cima", workloadv1.WorkloadAttestorPluginServer(p), configv1.ConfigServiceServer(p)), v1, options...)
		return v1
	}
	v1 := load(plugintest.CoreConfig(core), plugintest.Configuref("socket = %q", socket))
	got, err := v1.Attest(t.Context(), 123)
	var values []string
	for _, s := range got {
		values = append(values, s.Type+":"+s.Value)
	}
	if err != nil || !slices.Equal(values, []string{"cima:host", "cima:uid:7", "cima:unit:a.service"}) {
		t.Errorf("%q %v", values, err)
	}
	_, err = v1.Attest(t.Context(), 5)
	spiretest.RequireGRPCStatusContains(t, err, codes.NotFound, "workloadattestor(cima): cimad: ")
	_, err = load().Attest(t.Context(), 123)
	spiretest.RequireGRPCStatus(t, err, codes.FailedPrecondition, "workloadattestor(cima): not configured")
	for _, option := range []plugintest.Option{plugintest.Configure(`other = "x"`), plugintest.ConfigureJSON(map[string]int{"socket": 5})} {
		err = nil
		load(plugintest.CoreConfig(core), option, plugintest.CaptureConfigureError(&err))
		spiretest.RequireGRPCStatusContains(t, err, codes.InvalidArgument, "plugin_data")
	}
	err = nil
	load(plugintest.CoreConfig(core), plugintest.ConfigureJSON(map[string]string{"socket": socket}), plugintest.CaptureConfigureError(&err))
	if err != nil {
		t.Error(err)
	}
}

// stream is SPIRE's server as the agent's half sees it.
type stream struct {
	server *servernode.V1
	result *servernode.AttestResult
	err    error

	challenges chan []byte
	answers    chan []byte
}

func (s *stream) SendAttestationData(ctx context.Context, data agentnode.AttestationData) ([]byte, error) {
	go func() {
		s.result, s.err = s.server.Attest(ctx, data.Payload, func(_ context.Context, challenge []byte) ([]byte, error) {
			s.challenges <- challenge
			return <-s.answers, nil
		})
		close(s.challenges)
	}()
	return <-s.challenges, nil
}

func (s *stream) SendChallengeResponse(_ context.Context, response []byte) ([]byte, error) {
	s.answers <- response
	<-s.challenges
	return nil, s.err
}

// Both halves, each behind SPIRE's facade, on a simulated TD.
func TestNodeAttestor(t *testing.T) {
	td := verifytest.Boot(t, sim.Config{})
	const unit = "spire-agent.service"
	dir := t.TempDir()
	nonce := []byte("0123456789abcdef")
	policy, _ := td.Policy(td.Appraise(td.HostEvidence(unit, nonce, nil), nonce, nil))
	for name, text := range map[string][]byte{"policy.toml": policy, "root.pem": td.Root()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	from := unit
	socket := cimad(t, func(method string, params jsontext.Value) string {
		var p rpc.EvidenceParams
		if err := json.Unmarshal(params, &p); err != nil || method != rpc.MethodGetEvidence {
			t.Errorf("%s %s: %v", method, params, err)
		}
		if !strings.Contains(string(p.UserData), `"trust_domain":"example.org"`) {
			t.Errorf("user data %s", base64.StdEncoding.EncodeToString(p.UserData))
		}
		return `"result":` + string(td.HostEvidence(from, p.Nonce, p.UserData))
	})
	server := new(servernode.V1)
	p := node.NewServer()
	plugintest.Load(t, catalog.MakeBuiltIn("cima", servernodev1.NodeAttestorPluginServer(p), configv1.ConfigServiceServer(p)), server,
		plugintest.CoreConfig(core), plugintest.Configuref("policy = %q\ntrust_root = %q", dir+"/policy.toml", dir+"/root.pem"))
	agent := new(agentnode.V1)
	a := new(node.Agent)
	plugintest.Load(t, catalog.MakeBuiltIn("cima", agentnodev1.NodeAttestorPluginServer(a), configv1.ConfigServiceServer(a)), agent,
		plugintest.CoreConfig(core), plugintest.Configuref("socket = %q", socket))
	attest := func() *stream {
		s := &stream{server: server, challenges: make(chan []byte), answers: make(chan []byte)}
		if err := agent.Attest(t.Context(), s); err != nil && s.err == nil {
			t.Error(err)
		}
		return s
	}
	s := attest()
	if s.err != nil || !strings.HasPrefix(s.result.AgentID, "spiffe://example.org/spire/agent/cima/") || !s.result.CanReattest {
		t.Fatalf("%+v %v", s.result, s.err)
	}
	if again := attest(); again.err != nil || again.result.AgentID != s.result.AgentID {
		t.Errorf("the second time: %+v %v", again.result, again.err)
	}
	from = "other.service"
	spiretest.RequireGRPCStatusContains(t, attest().err, codes.PermissionDenied, "nodeattestor(cima): authentic, not trusted")
	_, err := server.Attest(t.Context(), []byte("{}"), func(context.Context, []byte) ([]byte, error) { return nil, nil })
	spiretest.RequireGRPCStatusContains(t, err, codes.InvalidArgument, "nodeattestor(cima): the agent's payload must be")
	_, err = server.Attest(t.Context(), nil, func(context.Context, []byte) ([]byte, error) { return nil, nil })
	spiretest.RequireGRPCStatusContains(t, err, codes.InvalidArgument, "payload cannot be empty")
}
