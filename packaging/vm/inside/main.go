// Inside runs in the test VM, as root, against the released cimad under
// systemd: containers of three engines, injected failures, kills, IMA. Each
// check is a line on stdout, the last line counts them. What it leaves in
// ./out is brought out of the VM.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cima-project/cima/rpc"
)

// checks run in this order: the last ones spoil the boot for evidence.
var checks = []struct {
	name string
	run  func(context.Context, *world) error
}{
	{"the system is what it should be: systemd as PID 1, cgroup v2, Linux 6.16 or newer", system},
	{"hw.Probe finds configfs-tsm, TDREPORT, registers to extend and the CCEL", probe},
	{"the kernel's CCEL replays to the RTMR0-2 of the TDREPORT", bootLog},
	{"IMA: every log parses with nothing skipped and replays to the TPM's PCR 10", imaLogs},
	{"the first caller starts cimad by its socket", activation},
	{"docker: evidence verifies, its log replays to the kernel's RTMR3 and the quote's", docker},
	{"docker with crun: the same", dockerCrun},
	{"podman: the same", podman},
	{"podman, rootless: the same, and it is the user's", rootless},
	{"docker without privileges: no power is announced, docker exec is its container", plain},
	{"many starts, 10 at a time, of three engines: each finds itself gated", gatedStorm},
	{"executions measured: all in the container's log, in order, and an intruder is named", execsMeasured},
	{"host service: evidence names unit and uid", hostService},
	{"a privileged container is announced to all", privileged},
	{"docker and podman: the same command line has the same launch digest", sameLaunch},
	{"each launch of a container that is gone has its exit in the log", ends},
	{"quote fails with EBUSY, ETIMEDOUT, EIO: each is told, the next call works", quoteErrors},
	{"a quote with no bytes is an error, the next call works", quoteEmpty},
	{"a quote that takes 1 s holds up nobody else", quoteSlow},
	{"a generation lapped by another writer is found, the next call works", quoteLapped},
	{"TDREPORT fails: it is told, the next call works", reportFails},
	{"extend fails and did not happen: it is told, the next call works", extendFails},
	{"extend fails and did happen: it counts", extendFailsLate},
	{"SIGKILL in the midst of 1,000 extends: no extend lost or doubled", killed},
	{"no configfs entry is left behind", noEntries},
	{"an extend behind the daemon's back, by the kernel: refused with the last agreement", foreignKernel},
	{"an extend behind the daemon's back, by sysfs, with no daemon: found by the next one", foreignSysfs},
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "extend" {
		if err := extendMany(context.Background()); err != nil {
			fmt.Fprintf(os.Stderr, "inside extend: %v\n", err)
			os.Exit(1)
		}
		return
	}
	w := &world{out: "out", launches: map[string][]rpc.Digest{}}
	passed, failed := 0, 0
	for _, c := range checks {
		start := time.Now()
		err := within(15*time.Minute, func(ctx context.Context) error { return c.run(ctx, w) })
		took, note := time.Since(start).Seconds(), w.takeNote()
		if err != nil {
			failed++
			fmt.Printf("FAIL %s (%.1f s)\n     %v\n", c.name, took, err)
			continue
		}
		passed++
		fmt.Printf("ok   %s (%.1f s)%s\n", c.name, took, note)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// within runs f with a deadline, and gives up on it where it doesn't heed it.
func within(limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit + 10*time.Second):
		return errors.New("did not end")
	}
}
