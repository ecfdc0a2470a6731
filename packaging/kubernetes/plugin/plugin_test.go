package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// kubelet is what a plug-in sees of one.
type kubelet struct {
	api.UnimplementedRegistrationServer
	dir        string
	server     *grpc.Server
	registered chan *api.RegisterRequest
}

func (k *kubelet) Register(_ context.Context, r *api.RegisterRequest) (*api.Empty, error) {
	k.registered <- r
	return &api.Empty{}, nil
}

// start is a kubelet's start: it removes what is in the directory.
func (k *kubelet) start(t *testing.T) {
	t.Helper()
	old, _ := filepath.Glob(k.dir + "/*")
	for _, f := range old {
		os.Remove(f)
	}
	l, err := net.Listen("unix", k.dir+"/kubelet.sock")
	if err != nil {
		t.Fatal(err)
	}
	k.server = grpc.NewServer()
	api.RegisterRegistrationServer(k.server, k)
	go k.server.Serve(l)
	t.Cleanup(k.server.Stop)
}

// device connects to the plug-in that was registered.
func (k *kubelet) device(t *testing.T) api.DevicePluginClient {
	t.Helper()
	var r *api.RegisterRequest
	select {
	case r = <-k.registered:
	case <-time.After(30 * time.Second):
		t.Fatal("not registered")
	}
	if r.Version != "v1beta1" || r.ResourceName != "cima-project.github.io/agent" || filepath.Base(r.Endpoint) != r.Endpoint {
		t.Errorf("registered as %+v", r)
	}
	c, err := grpc.NewClient("unix://"+filepath.Join(k.dir, r.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return api.NewDevicePluginClient(c)
}

func count(list *api.ListAndWatchResponse) (healthy, all int) {
	ids := map[string]bool{}
	for _, d := range list.Devices {
		ids[d.ID] = true
		if d.Health == api.Healthy {
			healthy++
		}
	}
	return healthy, len(ids)
}

// The kubelet is told how many there are and whether cimad answers, again when that
// changes; and a kubelet that starts again is registered with again.
func TestPlugin(t *testing.T) {
	dir, err := os.MkdirTemp("", "cima")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var up atomic.Bool
	p := &plugin{kubelet: dir, sockets: "/run/cima", count: 3, every: 20 * time.Millisecond, answers: func(context.Context) error {
		if up.Load() {
			return nil
		}
		return errors.New("nobody is there")
	}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	k := &kubelet{dir: dir, registered: make(chan *api.RegisterRequest, 16)}
	go func() { done <- p.run(ctx) }()
	k.start(t) // after the plug-in, as it may be
	d := k.device(t)
	stream, err := d.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{0, 3, 0} {
		list, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if healthy, all := count(list); healthy != want || all != 3 {
			t.Fatalf("%d of %d are healthy, want %d of 3", healthy, all, want)
		}
		up.Store(!up.Load())
	}
	k.server.Stop()
	k.start(t)
	again := k.device(t)
	if _, err := again.GetDevicePluginOptions(ctx, &api.Empty{}); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAllocate(t *testing.T) {
	asked := &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: []string{"agent-0"}}, {DevicesIds: []string{"agent-1"}}}}
	p := &plugin{sockets: "/run/cima"}
	out, err := p.Allocate(t.Context(), asked)
	if err != nil || len(out.ContainerResponses) != 2 {
		t.Fatal(out, err)
	}
	for _, c := range out.ContainerResponses {
		if len(c.Mounts) != 1 || !c.Mounts[0].ReadOnly || c.Mounts[0].HostPath != "/run/cima" || c.Mounts[0].ContainerPath != "/run/cima" ||
			c.Envs["CIMA_SOCKET"] != "/run/cima/cima.sock" || len(c.Devices)+len(c.CdiDevices) > 0 {
			t.Errorf("by a mount: %+v", c)
		}
	}
	p.cdi = true
	if out, err = p.Allocate(t.Context(), asked); err != nil || len(out.ContainerResponses) != 2 {
		t.Fatal(out, err)
	}
	for _, c := range out.ContainerResponses {
		if len(c.CdiDevices) != 1 || c.CdiDevices[0].Name != "cima-project.github.io/agent=default" || len(c.Mounts)+len(c.Envs) > 0 {
			t.Errorf("by CDI: %+v", c)
		}
	}
}

// A kubelet's directory that isn't there is waited for.
func TestNoKubelet(t *testing.T) {
	p := &plugin{kubelet: t.TempDir() + "/no", count: 1, every: time.Millisecond, answers: func(context.Context) error { return nil }}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := p.run(ctx); err != nil {
		t.Error(err)
	}
}
