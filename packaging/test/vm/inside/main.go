// Inside runs in the test VM, as root, against the released cimad under
// systemd: containers of three engines, injected failures, kills, IMA. Each
// check prints a line, the last line counts them. The files that it leaves in
// ./out are copied out of the VM.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/rpc"
)

type check struct {
	name string
	run  func(context.Context, *world) error
}

// before run on the first boot, when the machine is no TD yet.
var before = []check{
	{"apt installs the packages on a machine that is no TD: enabled, skipped, nothing printed", installed},
	{"autopkgtest's no-td passes", autopkgtest},
	{"docker and podman: a container each that starts at boot", startsWithMachine},
	{"quadlet: a container that is a unit, enabled", quadlet},
}

// checks run on the second boot, in this order: the last ones make evidence
// impossible, and then remove the packages.
var checks = []check{
	{"boot: cimad is ready before the engines, their containers are gated", bootOrder},
	{"boot: cimad is ready before a unit of Quadlet, and its container is gated", quadletAtBoot},
	{"the system: systemd as PID 1, cgroup v2, Linux 6.16 or newer", system},
	{"hw.Probe finds configfs-tsm, TDREPORT, registers to extend and the CCEL", probe},
	{"the kernel's CCEL replays to the RTMR0-2 of the TDREPORT", bootLog},
	{"IMA: every log parses with nothing skipped and replays to the TPM's PCR 10", imaLogs},
	{"the first caller starts cimad by its socket", activation},
	{"docker: evidence verifies, its log replays to the kernel's RTMR3 and the quote's", docker},
	{"docker with crun: the same", dockerCrun},
	{"podman: the same", podman},
	{"podman, rootless: the same, and it is the user's", rootless},
	{"docker and podman by CDI: the same, read-only, CIMA_SOCKET set, no power event", cdi},
	{"docker without privileges: no power event, docker exec is identified as its container", plain},
	{"pairs: fifteen lines of docker and podman, twice: equal digests, and no power event", pairs},
	{"podman in a user namespace: its image is known, twice the same launch", mapped},
	{"many starts, 10 at a time, of three engines: each is gated", gatedStorm},
	{"executions measured: all in the container's log, in order, and an intruder is named", execsMeasured},
	{"executions measured: programs under fs-verity have its digest, whatever their size", verityMeasured},
	{"hostile containers of docker, podman and a user: others start gated, get evidence and connect", hostile},
	{"host service: evidence names unit and uid", hostService},
	{"all see the power event of a privileged container", privileged},
	{"docker and podman: privileged, unconfined, without a cgroup: in the log, and trusted if the policy allows it", powersAnnounced},
	{"privileged containers that kill cimad as their first act: in the log, after their power event", killedFirst},
	{"docker and podman: the same command line has the same launch digest", sameLaunch},
	{"docker: predict gives the launch digest that was logged, with AppArmor and without", predicted},
	{"podman, rootless: a container that called outlives cimad, and its end is logged", usersEnd},
	{"each launch of a container that is gone has its exit in the log", ends},
	{"quote fails with EBUSY, ETIMEDOUT, EIO: each is reported, the next call works", quoteErrors},
	{"a quote with no bytes is an error, the next call works", quoteEmpty},
	{"a quote that takes 1 s delays no other caller", quoteSlow},
	{"a generation lapped by another writer is detected, the next call works", quoteLapped},
	{"TDREPORT fails: it is reported, the next call works", reportFails},
	{"extend fails and was not carried out: it is reported, the next call works", extendFails},
	{"extend fails and was carried out: it counts", extendFailsLate},
	{"SIGKILL during 1,000 extends: no extend lost or doubled", killed},
	{"apt upgrades under load: requests that were read are answered, clients see no error, no extend is made twice", upgrade},
	{"apt downgrades: the same", downgrade},
	{"with no-gate.conf and no-homes.conf: docker and podman: the same, but observed", dropIns},
	{"with the packaged AppArmor profile: docker and podman: the same, and nothing is denied", confined},
	// Late, because podman keeps using FUSE once it was configured so.
	{"executions measured: files of a root file system by FUSE have no digest, and the log has the reason", onFUSE},
	{"no configfs entry is left behind", noEntries},
	{"a foreign extend, by the kernel: evidence is refused with the last agreement", foreignKernel},
	{"a foreign extend, by sysfs, while no daemon runs: the next one detects it", foreignSysfs},
	{"apt removes: nothing runs, configuration and log stay", removed},
	{"apt purges: no file is left", purged},
}

// reference is the only check of a boot by firmware that measures (packaging/test/vm/run).
var reference = []check{
	{"a policy made from files alone trusts a container started afterwards, first time; a changed byte is refused", referenced},
}

// lines is the only check of a boot with VM_LINES.
var lines = []check{
	{"lines: each line of docker's and podman's twice: equal digests, and at least 70 without a class of power", everyLine},
}

func main() {
	run := checks
	switch strings.Join(os.Args[1:], " ") {
	case "extend":
		report(extendMany(context.Background()))
		return
	case "extend until end of input":
		report(extendUntil(context.Background(), os.Stdin))
		return
	case "before":
		run = before
	case "before reference":
		run = before[:1]
	case "before selinux":
		run = beforeSELinux
	case "reference":
		run = reference
	case "selinux":
		run = selinux
	case "lines":
		run = lines
	case "azure":
		run = azure
	case "own label":
		fmt.Println(ownLabel())
		return
	case "image":
		report(writeImage("reference/image.tar", "reference/cimactl"))
		return
	case "line":
		fmt.Println(strings.Join(referenceRun, " "))
		return
	}
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case "listen":
			report(listen(os.Args[2]))
			return
		case "reach":
			report(reach(os.Args[2]))
			return
		}
	}
	w := &world{out: "out", launches: map[string][]rpc.Digest{}}
	if len(os.Args) == 1 {
		run = chosen(run)
	}
	passed, failed := 0, 0
	for _, c := range run {
		start := time.Now()
		err := within(2*time.Hour, func(ctx context.Context) error { return c.run(ctx, w) })
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

// chosen are the checks that somebody works on, or that there is time for: those whose
// names match the pattern in one file, and not the one in another. It names those that
// the second leaves out.
func chosen(all []check) []check {
	wanted, unwanted := pattern("checks"), pattern("skip")
	return slices.DeleteFunc(slices.Clone(all), func(c check) bool {
		if wanted.MatchString(c.name) && unwanted.MatchString(c.name) {
			fmt.Printf("left out: %s\n", c.name)
			return true
		}
		return !wanted.MatchString(c.name)
	})
}

func pattern(file string) *regexp.Regexp {
	text, err := os.ReadFile(file)
	if err != nil {
		report(err)
	}
	r, err := regexp.Compile(strings.TrimSpace(string(text)))
	if err != nil {
		report(fmt.Errorf("%s: %w", file, err))
	}
	return r
}

// report ends a program that a check runs in a container.
func report(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "inside: %v\n", err)
		os.Exit(1)
	}
}

// within runs f with a deadline, and stops waiting if f ignores it.
func within(limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit + 10*time.Second):
		return errors.New("the check did not end in time")
	}
}
