package node

import (
	"bufio"
	"encoding/json/v2"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	"github.com/spiffe/spire-plugin-sdk/plugintest"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/rpc"
)

// The agent's half asks for evidence over the server's nonce and its own user data, and
// answers no challenge of another form: it is no oracle.
func TestAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var asked rpc.EvidenceParams
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				var r struct {
					ID     int                `json:"id"`
					Params rpc.EvidenceParams `json:"params"`
				}
				if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
					t.Error(err)
				}
				asked = r.Params
				fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,"result":{"the":"evidence"}}`+"\n", r.ID)
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	var client nodeattestorv1.NodeAttestorPluginClient
	var config configv1.ConfigServiceClient
	a := new(Agent)
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer:   nodeattestorv1.NodeAttestorPluginServer(a),
		PluginClient:   &client,
		ServiceServers: []pluginsdk.ServiceServer{configv1.ConfigServiceServer(a)},
		ServiceClients: []pluginsdk.ServiceClient{&config},
	})
	answer := func(challenge []byte) (string, error) {
		stream, err := client.AidAttestation(t.Context())
		if err != nil {
			return "", err
		}
		first, err := stream.Recv()
		if err != nil {
			return "", err
		}
		if string(first.GetPayload()) != payload {
			t.Errorf("payload %q", first.GetPayload())
		}
		if err := stream.Send(&nodeattestorv1.Challenge{Challenge: challenge}); err != nil {
			return "", err
		}
		got, err := stream.Recv()
		return string(got.GetChallengeResponse()), err
	}
	nonce := []byte(strings.Repeat("n", nonceSize))
	if _, err := answer(nonce); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("not configured: %v", err)
	}
	core := &configv1.CoreConfiguration{TrustDomain: domain}
	if _, err := config.Configure(t.Context(), &configv1.ConfigureRequest{HclConfiguration: fmt.Sprintf("socket = %q", socket), CoreConfiguration: core}); err != nil {
		t.Fatal(err)
	}
	got, err := answer(nonce)
	if err != nil || got != `{"the":"evidence"}` {
		t.Errorf("%q, %v", got, err)
	}
	if string(asked.Nonce) != string(nonce) || string(asked.UserData) != `{"profile":"`+profile+`","trust_domain":"example.org"}` {
		t.Errorf("asked with %q, %q", asked.Nonce, asked.UserData)
	}
	asked = rpc.EvidenceParams{}
	for _, other := range []string{"", "n", string(nonce) + "n"} {
		if _, err := answer([]byte(other)); status.Code(err) != codes.InvalidArgument || asked.Nonce != nil {
			t.Errorf("%d bytes: %v, asked with %q", len(other), err, asked.Nonce)
		}
	}
	for _, text := range []string{`policy = "x"`, `socket = ""`} {
		v, err := config.Validate(t.Context(), &configv1.ValidateRequest{HclConfiguration: text, CoreConfiguration: core})
		if err != nil || v.Valid || len(v.Notes) != 1 {
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
}
