// Cima-device-plugin lets pods ask for CIMA's socket as they ask for a device:
//
//	resources: {limits: {cima-project.github.io/agent: 1}}
//
// Such a pod needs no hostPath, so it may be in a namespace of the level "restricted", and
// the scheduler gives it a node where cimad answers. The plug-in runs in a pod of a
// DaemonSet. It has no part in what evidence proves: a node on which it lies gives pods a
// socket behind which nobody can sign.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cima-project/cima/rpc"
)

func main() {
	p := &plugin{}
	flag.StringVar(&p.kubelet, "kubelet", "/var/lib/kubelet/device-plugins", "the kubelet's directory of plug-ins")
	flag.StringVar(&p.sockets, "sockets", "/run/cima", "the directory that a pod gets, here and on the node")
	flag.IntVar(&p.count, "count", 250, "how many containers of this node may have it at once")
	flag.BoolVar(&p.cdi, "cdi", false, "have the runtime add it by CDI (/etc/cdi/cima.yaml of the node) instead of the kubelet by a mount")
	flag.DurationVar(&p.every, "every", 15*time.Second, "how often cimad and the kubelet are looked at")
	flag.Parse()
	if flag.NArg() > 0 || p.count < 1 || p.count > 65536 || p.every <= 0 {
		fmt.Fprintln(os.Stderr, "cima-device-plugin: no arguments, a count from 1 to 65536, and a time above 0 are possible")
		os.Exit(2)
	}
	p.answers = p.whoAmI
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.run(ctx); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

// whoAmI asks cimad something that costs no quote.
func (p *plugin) whoAmI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := rpc.Dial(ctx, filepath.Join(p.sockets, "cima.sock"))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.WhoAmI(ctx)
	return err
}
