package rpc_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cima-project/cima/daemon"
	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
)

// A program gets evidence about its container; the relying party, which sent
// the nonce, appraises it. The evidence is authentic, and not trusted, because
// no policy is given.
func ExampleClient_GetEvidence() {
	socket, roots, stop := simulated()
	defer stop()
	ctx := context.Background()
	nonce := []byte("from the relying party")

	// In the container. "" finds the daemon where it usually is.
	client, err := rpc.Dial(ctx, socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	bundle, err := client.GetEvidence(ctx, rpc.EvidenceParams{Nonce: nonce})
	if err != nil {
		fmt.Println(err)
		return
	}

	// At the relying party. Without TrustRoots only Intel's root is trusted.
	result, err := verify.Appraise(ctx, bundle, verify.Options{Nonce: nonce, TrustRoots: roots})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Verdict)
	fmt.Println(result.Step(verify.StepRuntimeLog).Outcome)
	// Output:
	// authentic, not trusted
	// pass
}

// The event log explains the registers.
func ExampleClient_CompareEventLog() {
	socket, _, stop := simulated()
	defer stop()
	client, err := rpc.Dial(context.Background(), socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	compared, err := client.CompareEventLog(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range compared {
		fmt.Println("register", c.Index, "as logged:", c.Equal())
	}
	// Output:
	// register 0 as logged: true
	// register 1 as logged: true
	// register 2 as logged: true
}

// A long log comes in pages, which the iterator requests as needed.
func ExampleClient_Events() {
	socket, _, stop := simulated()
	defer stop()
	client, err := rpc.Dial(context.Background(), socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	for event, err := range client.Events(context.Background(), rpc.CCEventLogParams{Count: 2}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("record %d extends RTMR%d\n", event.RecNum, event.IMRIndex)
		if event.RecNum == 2 {
			break
		}
	}
	// Output:
	// record 0 extends RTMR0
	// record 1 extends RTMR0
	// record 2 extends RTMR0
}

// Errors of the daemon have a code; others mean that it gave no answer.
func ExampleError() {
	socket, _, stop := simulated()
	defer stop()
	client, err := rpc.Dial(context.Background(), socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	_, err = client.GetCCReport(context.Background(), rpc.CCReportParams{Nonce: []byte("short")})
	var e *rpc.Error
	if errors.As(err, &e) && e.Code == rpc.CodeInvalidParams {
		fmt.Println(e.Data.Member, "is wrong")
	}
	// Output: nonce is wrong
}

// If there is no daemon, the error says what the reason may be.
func ExampleUnreachableError() {
	_, err := rpc.Dialer{Path: "/tmp/no-such-dir/cima.sock", Patience: -1}.Dial(context.Background())
	fmt.Println(err)
	// Output:
	// no daemon at /tmp/no-such-dir/cima.sock: no such file or directory; hint: in a container: mount /tmp/no-such-dir (-v /tmp/no-such-dir:/tmp/no-such-dir:ro); on the host: systemctl start cimad, and cimactl doctor says what is missing
}

// At boot a program may be earlier than the daemon.
func ExampleDialer() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := rpc.Dialer{Path: "/tmp/no-such-directory/cima.sock", Wait: true}.Dial(ctx)
	fmt.Println(err != nil)
	// Output: true
}

// simulated is a daemon on a simulated TD, and the root of its quotes.
func simulated() (socket string, roots []*x509.Certificate, stop func()) {
	dir, err := os.MkdirTemp("/tmp", "cima-e")
	must(err)
	machine, err := sim.Boot(sim.Config{})
	must(err)
	roots, err = dcap.ParseRoots(machine.RootPEM())
	must(err)
	config := config.Default()
	config.Gate.Mode = "off"
	config.Engines.Docker, config.Engines.Podman = "", ""
	ctx, cancel := context.WithCancel(context.Background())
	d, err := daemon.New(ctx, daemon.Options{
		TEE: machine, Config: config, LogDir: filepath.Join(dir, "log"), Version: "example",
		Log:     slog.New(slog.DiscardHandler),
		Records: records.New(records.Options{Places: []records.Place{}}),
	})
	must(err)
	socket = filepath.Join(dir, "cima.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	must(err)
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, daemon.Sockets{Caller: l}) }()
	return socket, roots, func() {
		cancel()
		must(<-ended)
		d.Close()
		os.RemoveAll(dir)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
