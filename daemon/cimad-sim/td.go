package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw/sim"
)

// platforms are the values of --platform.
const platforms = "tdx (the default), azure-tdx, snp, azure-snp"

// Files of a simulated TD in its directory.
const (
	socketFile = "td.sock"
	rootFile   = "root.pem"
)

// runTD is the simulated TD: it keeps its registers until it is ended.
func runTD(args []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("cimad-sim td", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	dir := set.String("dir", "", "`DIR` for "+socketFile+" and "+rootFile+"; made if it isn't there")
	bootLog := set.String("boot-log", "", "`FILE` with the CCEL to boot by; without it a synthetic one")
	platform := set.String("platform", "", "`NAME` of what is simulated: "+platforms)
	delay := set.Duration("quote-delay", 0, "how long a quote takes; with the kernel's own driver 1s")
	keyFile := set.String("root-key", "", "`FILE` that keeps the root's key, so that boots share a root; made if it isn't there")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, "Usage: cimad-sim td --dir DIR [--platform NAME | --boot-log FILE]\n\nA simulated TD: NOT HARDWARE. It keeps its registers until it is ended.\n\n")
		set.SetOutput(stdout)
		set.PrintDefaults()
		return 0
	case err != nil || *dir == "" || set.NArg() > 0:
		if err == nil {
			err = errors.New("--dir DIR is needed, and nothing behind the flags")
		}
		fmt.Fprintf(stderr, "cimad-sim td: %v\nhint: `cimad-sim td --help` lists the flags\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serveTD(ctx, *dir, *bootLog, sim.Config{Platform: *platform, QuoteDelay: *delay, RootFile: *keyFile}, stdout); err != nil {
		fmt.Fprintf(stderr, "cimad-sim td: %v\n", err)
		return 1
	}
	return 0
}

func serveTD(ctx context.Context, dir, bootLog string, config sim.Config, stdout io.Writer) error {
	if bootLog != "" {
		text, err := os.ReadFile(bootLog)
		if err != nil {
			return err
		}
		config.BootLog = text
	}
	machine, err := sim.Boot(config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	socket := filepath.Join(dir, socketFile)
	listener, err := sim.Listen(socket)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, rootFile)
	if err := os.WriteFile(root, machine.RootPEM(), 0o644); err != nil {
		listener.Close()
		return err
	}
	fmt.Fprintf(stdout, "simulated TD behind %s; verifiers trust it with --trust-root %s\n", socket, root)
	return sim.Serve(ctx, listener, machine)
}

// startTD takes up the TD that runs in dir, or starts one. It outlives this
// process, as real registers do.
func startTD(ctx context.Context, dir, platform, bootLog string, log *slog.Logger) (socket string, err error) {
	socket = filepath.Join(dir, socketFile)
	if runs(socket) {
		if bootLog != "" || platform != "" {
			return "", fmt.Errorf("a simulated TD runs at %s already: --boot-log and --platform must be given when the TD starts", socket)
		}
		return socket, nil
	}
	args := []string{"td", "--dir", dir}
	if platform != "" {
		args = append(args, "--platform", platform)
	}
	if bootLog != "" {
		args = append(args, "--boot-log", bootLog)
	}
	c := exec.Command("/proc/self/exe", args...)
	c.Args[0] = os.Args[0]
	// Not our stderr: a program that waits for its end would wait for the TD's.
	var said bytes.Buffer
	c.Stderr = &said
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for deadline := time.After(10 * time.Second); ; {
		if runs(socket) {
			log.Info("simulated TD started; it outlives the daemon", "pid", c.Process.Pid, "root", filepath.Join(dir, rootFile))
			return socket, nil
		}
		select {
		case err := <-ended:
			return "", fmt.Errorf("the simulated TD ended at once: %v: %s", err, bytes.TrimSpace(said.Bytes()))
		case <-deadline:
			c.Process.Kill()
			return "", errors.New("the simulated TD did not answer within 10 s")
		case <-ctx.Done():
			c.Process.Kill()
			return "", ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func runs(socket string) bool {
	td, err := sim.Dial(socket)
	if err != nil {
		return false
	}
	_, err = td.BootID()
	return err == nil
}
