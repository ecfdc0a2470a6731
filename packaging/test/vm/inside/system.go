package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
)

func system(ctx context.Context, w *world) error {
	init, err := os.ReadFile("/proc/1/comm")
	if err != nil || strings.TrimSpace(string(init)) != "systemd" {
		return fmt.Errorf("PID 1 is %q: %v", init, err)
	}
	var fs syscall.Statfs_t
	const cgroup2 = 0x63677270
	if err := syscall.Statfs("/sys/fs/cgroup", &fs); err != nil || fs.Type != cgroup2 {
		return fmt.Errorf("/sys/fs/cgroup is of type %#x, not cgroup v2: %v", fs.Type, err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	var major, minor int
	if n, _ := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil || n != 2 || major < 6 || major == 6 && minor < 16 {
		return fmt.Errorf("kernel %q: %v", release, err)
	}
	systemd, err := command(ctx, "systemctl", "--version")
	if err != nil {
		return err
	}
	systemd, _, _ = strings.Cut(systemd, "\n")
	w.note("Linux %s, %s", strings.TrimSpace(string(release)), systemd)
	return nil
}

func probe(ctx context.Context, w *world) error {
	r := hw.NewTDX(hw.TDXOptions{}).Probe(ctx)
	for _, choice := range []struct{ what, got, want string }{
		{"quote", r.Quote, "configfs-tsm"},
		{"registers", r.Registers, "TDREPORT ioctl"},
		{"extend", r.Extend, "sysfs"},
		{"boot log", r.BootLog, "CCEL table"},
	} {
		if !strings.HasPrefix(choice.got, choice.want) {
			return fmt.Errorf("%s by %q, not %q; %+v", choice.what, choice.got, choice.want, r.Checks)
		}
	}
	return nil
}

func bootLog(ctx context.Context, w *world) error {
	tdx := hw.NewTDX(hw.TDXOptions{})
	log, err := tdx.BootLog()
	if err != nil {
		return err
	}
	now, err := tdx.Registers(ctx)
	if err != nil {
		return err
	}
	replayed, err := boot.Replay(log)
	if err != nil {
		return err
	}
	for i := range 3 {
		if replayed[i] != now.RTMR[i] || now.RTMR[i] == (hw.Digest{}) {
			return fmt.Errorf("RTMR%d: the CCEL replays to %v, the TDREPORT has %v", i, hw.Digest(replayed[i]), now.RTMR[i])
		}
	}
	w.note("%d bytes from /sys/firmware/acpi", len(log))
	return nil
}

func activation(ctx context.Context, w *world) error {
	if _, err := command(ctx, "systemctl", "stop", "cimad.service"); err != nil {
		return err
	}
	if state := property(ctx, "cimad.service", "ActiveState"); state != "inactive" {
		return fmt.Errorf("cimad.service is %s before the first call", state)
	}
	if state := property(ctx, "cimad.socket", "ActiveState"); state != "active" {
		return fmt.Errorf("cimad.socket is %s", state)
	}
	who, err := command(ctx, "cimactl", "whoami")
	if err != nil {
		return err
	}
	if !strings.Contains(who, "host") && !strings.Contains(who, "uid") {
		return fmt.Errorf("whoami prints %q", who)
	}
	if state := property(ctx, "cimad.service", "ActiveState"); state != "active" {
		return fmt.Errorf("cimad.service is %s after a call", state)
	}
	if by := property(ctx, "cimad.service", "TriggeredBy"); !strings.Contains(by, "cimad.socket") {
		return fmt.Errorf("cimad.service is triggered by %q", by)
	}
	if n := property(ctx, "cimad.service", "NFileDescriptorStore"); n != "1" {
		return fmt.Errorf("systemd's store holds %s descriptors of cimad, not the agent key alone", n)
	}
	exe, err := os.Readlink("/proc/" + property(ctx, "cimad.service", "MainPID") + "/exe")
	if err != nil {
		return err
	}
	running, err1 := os.ReadFile(exe)
	built, err2 := os.ReadFile("cimad")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if string(running) != string(built) {
		return fmt.Errorf("%s runs, and must be the program that was built", exe)
	}
	return nil
}

func hostService(ctx context.Context, w *world) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	result, err := appraise(ctx, bundle, nonce)
	if err != nil {
		return err
	}
	if h := result.Claims.Host; h == nil || h.Unit != "cima-vm.service" || h.UID != 0 {
		return fmt.Errorf("claims must be of uid 0 in cima-vm.service, not %+v", h)
	}
	return nil
}
