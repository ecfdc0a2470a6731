package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource  = "cima-project.github.io/agent"
	cdiDevice = "cima-project.github.io/agent=default"
	endpoint  = "cima.sock" // in the kubelet's directory
)

// plugin is the device plug-in of one node.
type plugin struct {
	api.UnimplementedDevicePluginServer

	kubelet string // its directory of plug-ins
	sockets string // the directory that a pod gets
	count   int
	cdi     bool
	every   time.Duration
	answers func(context.Context) error // nil where cimad answers

	mu      sync.Mutex
	healthy bool
	changed chan struct{} // closed when healthy changes
}

// run serves the kubelet until ctx ends. A kubelet that starts again has removed all
// sockets of plug-ins, and knows none: then it serves and registers anew.
func (p *plugin) run(ctx context.Context) error {
	p.changed = make(chan struct{})
	p.look(ctx)
	go p.watch(ctx)
	for ctx.Err() == nil {
		err := p.serve(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		slog.Warn("the kubelet doesn't know the plug-in", "error", err, "again_in", p.every)
		select {
		case <-ctx.Done():
		case <-time.After(p.every):
		}
	}
	return nil
}

// serve serves and registers, and returns when the kubelet must be told again.
func (p *plugin) serve(ctx context.Context) error {
	at := filepath.Join(p.kubelet, endpoint)
	if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", at)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	defer func() { server.Stop(); <-done }()
	ours, err := os.Stat(at)
	if err == nil {
		err = p.register(ctx)
	}
	if err != nil {
		return err
	}
	slog.Info("registered", "resource", resource, "count", p.count, "cdi", p.cdi)
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now, err := os.Stat(at); err != nil || !os.SameFile(now, ours) {
			slog.Info("the kubelet has started again")
			return nil
		}
	}
}

func (p *plugin) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+filepath.Join(p.kubelet, filepath.Base(api.KubeletSocket)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource})
	return err
}

// watch looks at cimad until ctx ends.
func (p *plugin) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.every):
			p.look(ctx)
		}
	}
}

// look notes whether cimad answers, and tells who waits for a change.
func (p *plugin) look(ctx context.Context) {
	err := p.answers(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if (err == nil) == p.healthy {
		return
	}
	p.healthy = err == nil
	close(p.changed)
	p.changed = make(chan struct{})
	if err != nil {
		slog.Warn("cimad doesn't answer: new pods that ask for it go to other nodes", "error", err)
	} else {
		slog.Info("cimad answers")
	}
}

// state is whether cimad answers, and what is closed when that changes.
func (p *plugin) state() (healthy bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.healthy, p.changed
}

// GetDevicePluginOptions says that nothing is to be done before a container starts.
func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch tells the kubelet how many there are, now and whenever cimad begins or
// ceases to answer.
func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		healthy, changed := p.state()
		list := &api.ListAndWatchResponse{}
		for i := range p.count {
			d := &api.Device{ID: fmt.Sprint("agent-", i), Health: api.Unhealthy}
			if healthy {
				d.Health = api.Healthy
			}
			list.Devices = append(list.Devices, d)
		}
		if err := stream.Send(list); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// Allocate says what a container gets. It is the same for all: the devices are there to
// be counted.
func (p *plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	out := &api.AllocateResponse{}
	for range asked.ContainerRequests {
		one := &api.ContainerAllocateResponse{}
		if p.cdi {
			one.CdiDevices = []*api.CDIDevice{{Name: cdiDevice}}
		} else {
			one.Mounts = []*api.Mount{{ContainerPath: "/run/cima", HostPath: p.sockets, ReadOnly: true}}
			one.Envs = map[string]string{"CIMA_SOCKET": "/run/cima/cima.sock"}
		}
		out.ContainerResponses = append(out.ContainerResponses, one)
	}
	return out, nil
}
