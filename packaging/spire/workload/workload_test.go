package workload

import (
	"bufio"
	"encoding/json/v2"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spiffe/spire-plugin-sdk/pluginsdk"
	"github.com/spiffe/spire-plugin-sdk/plugintest"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/rpc"
)

// SPIRE's test kit waits for the plug-in's process, which is this one, and for brokers that
// nobody dials.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin/internal/cmdrunner.pidWait"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).timeoutWait"))
}

// daemon answers LookUpProcess with what a test says of a number.
func daemon(t *testing.T, answer func(pid int) string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					var r struct {
						ID     int               `json:"id"`
						Method string            `json:"method"`
						Params rpc.ProcessParams `json:"params"`
					}
					if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Method != rpc.MethodLookUpProcess {
						t.Errorf("%s: %v", lines.Text(), err)
						return
					}
					fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,%s}`+"\n", r.ID, answer(r.Params.PID))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return socket
}

func serve(t *testing.T, settings string) (client workloadattestorv1.WorkloadAttestorPluginClient, err error) {
	t.Helper()
	var config configv1.ConfigServiceClient
	p := New()
	plugintest.ServeInBackground(t, plugintest.Config{
		PluginServer:   workloadattestorv1.WorkloadAttestorPluginServer(p),
		PluginClient:   &client,
		ServiceServers: []pluginsdk.ServiceServer{configv1.ConfigServiceServer(p)},
		ServiceClients: []pluginsdk.ServiceClient{&config},
	})
	if settings == "" {
		return client, nil
	}
	_, err = config.Configure(t.Context(), &configv1.ConfigureRequest{HclConfiguration: settings, CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: "example.org"}})
	v, invalid := config.Validate(t.Context(), &configv1.ValidateRequest{HclConfiguration: settings, CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: "example.org"}})
	if invalid != nil || v.Valid != (err == nil) {
		t.Errorf("%s: configured %v, valid %v %v", settings, err, v, invalid)
	}
	return client, err
}

const container = `"result":{"pid":%d,"started":5,"container":{"id":"c1","runtime":"docker","image":"x","image_digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222","launch_digest":"` +
	launch + `","cgroup":"/x","assurance":{"start":"gated","pidfd":true,"cgroup_owner":0,"metadata":"bundle+engine"}},"source":"bundle","power":[%s]}`

const launch = "999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"

// What isn't known gives no selector, and what isn't answered for this number gives none.
func TestAttest(t *testing.T) {
	socket := daemon(t, func(pid int) string {
		switch pid {
		case 1:
			return fmt.Sprintf(container, pid, "")
		case 2:
			return fmt.Sprintf(container, pid, `"mount:proc","privileged"`)
		case 3:
			return `"result":{"pid":3,"started":5,"host":{"unit":"a.service","uid":7}}`
		case 4:
			return fmt.Sprintf(container, 5, "")
		case 5:
			return `"result":{"pid":5,"started":5}`
		case 6:
			return strings.Replace(strings.Replace(fmt.Sprintf(container, pid, ""), `,"power":[]`, "", 1), `"launch_digest":"`+launch+`",`, "", 1)
		case 7:
			return `"error":{"code":-32002,"message":"no"}`
		}
		return `"error":{"code":-32001,"message":"no process"}`
	})
	client, err := serve(t, fmt.Sprintf("socket = %q", socket))
	if err != nil {
		t.Fatal(err)
	}
	usual := []string{
		"container", "container_id:c1", "runtime:docker", "source:bundle",
		"image_digest:sha256:2222222222222222222222222222222222222222222222222222222222222222", "start:gated", "cgroup_owner:0",
	}
	for pid, want := range map[int32]struct {
		values []string
		code   codes.Code
	}{
		1: {append(slices.Clone(usual), "launch_digest:"+launch, "power:none"), codes.OK},
		2: {append(slices.Clone(usual), "launch_digest:"+launch, "power:mount:proc", "power:privileged"), codes.OK},
		3: {[]string{"host", "uid:7", "unit:a.service"}, codes.OK},
		4: {nil, codes.Unavailable},
		5: {nil, codes.Unavailable},
		6: {usual, codes.OK},
		7: {nil, codes.PermissionDenied},
		8: {nil, codes.NotFound},
	} {
		r, err := client.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: pid})
		if status.Code(err) != want.code || !slices.Equal(r.GetSelectorValues(), want.values) {
			t.Errorf("%d: %q %v, want %q %v", pid, r.GetSelectorValues(), err, want.values, want.code)
		}
	}
}

// What a user can bring about is no selector: the image of a container of the user's own
// engine, and root's uid, which a set-user-ID program has in the user's session.
func TestUsersWord(t *testing.T) {
	image := "sha256:" + strings.Repeat("2", 64)
	for _, source := range []string{"bundle", "user"} {
		who := rpc.ProcessIdentity{Source: source, Container: &rpc.ContainerIdentity{ID: "x", ImageDigest: image}}
		if got := slices.Contains(selectors(who), "image_digest:"+image); got != (source == "bundle") {
			t.Errorf("source %s: the image is a selector: %t", source, got)
		}
	}
	for unit, session := range map[string]bool{
		"session-3.scope": true, "session-c1.scope": true, "user@1000.service": true,
		"user@0.service": false, "sshd.service": false, "": false, "session-3.service": false, "docker.service": false,
	} {
		for _, uid := range []uint32{0, 1000} {
			got := slices.Contains(selectors(rpc.ProcessIdentity{Host: &rpc.HostClaims{Unit: unit, UID: uid}}), fmt.Sprintf("uid:%d", uid))
			if got != (uid != 0 || !session) {
				t.Errorf("unit %q, uid %d: the uid is a selector: %t", unit, uid, got)
			}
		}
	}
}

func TestNotConfigured(t *testing.T) {
	client, _ := serve(t, "")
	if _, err := client.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: 1}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	unmet := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(unmet, []byte("cima_policy = 2\n[[container]]\nname = \"x\"\nany = true\nexecs = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, settings := range []string{fmt.Sprintf("policy = %q", fifo), `policy = "x"`, `socket = ""`, `revocations = "x"`, `policies = "x"`, fmt.Sprintf("policy = %q", unmet)} {
		if _, err := serve(t, settings); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

// Classes without end are not selectors without end, and unknown ones are not none.
func TestPower(t *testing.T) {
	many := make([]string, 0, 100)
	for i := range 100 {
		many = append(many, fmt.Sprintf("device:c:1:%d", i))
	}
	if got := power(many); len(got) != maxPower+1 || got[maxPower] != "power:more" {
		t.Errorf("%q", got)
	}
	who := rpc.ProcessIdentity{Container: &rpc.ContainerIdentity{ID: "x"}}
	got := selectors(who)
	if slices.ContainsFunc(got, func(v string) bool {
		return strings.HasPrefix(v, "power") || strings.HasPrefix(v, "policy") || strings.HasPrefix(v, "launch")
	}) {
		t.Errorf("nothing is known: %q", got)
	}
}
