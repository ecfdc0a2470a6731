package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// beforeSELinux run on the first boot with VM_SELINUX, with the policy loaded and not in force.
var beforeSELinux = []check{
	before[0],
	{"the script of cima-selinux loads the module, and labels the program", moduleLoaded},
}

// selinux are the checks of the second boot with VM_SELINUX, with the policy in force.
var selinux = []check{
	{"SELinux is in force: cimad has its domain, its files and sockets their labels", inForce},
	{"the system: systemd as PID 1, cgroup v2, Linux 6.16 or newer", system},
	{"the first caller starts cimad by its socket", activation},
	{"docker: evidence verifies, its log replays to the kernel's RTMR3 and the quote's", docker},
	{"podman: the same", podman},
	{"docker without privileges: no power event, docker exec is identified as its container", plain},
	{"many starts, 10 at a time, of three engines: each is gated", gatedStorm},
	{"executions measured: all in the container's log, in order, and an intruder is named", execsMeasured},
	{"host service: evidence names unit and uid", hostService},
	{"a quote that fails is reported, the next call works", quoteErrors},
	{"containers of docker and podman are container_t: they reach cima's socket, and that of another service of root's only while SELinux is not in force", otherSockets},
	{"started, stopped and started by its socket: cimad was denied nothing, nor anybody at its files and sockets", nothingDenied},
}

const (
	enforce    = "/sys/fs/selinux/enforce"
	otherDir   = "/run/vm-other"
	otherSock  = otherDir + "/other.sock"
	otherUnit  = "vm-other.service"
	carried    = "/var/lib/vm-inside" // this program, as containers may execute it
	deniedWord = "avc:  denied"
)

// moduleLoaded runs what the rpm's package runs, since Debian's loads nothing.
func moduleLoaded(ctx context.Context, w *world) error {
	start := time.Now()
	if _, err := command(ctx, "sh", "/opt/vm/selinux.post", "1"); err != nil {
		return err
	}
	took := time.Since(start)
	modules, err := command(ctx, "semodule", "-lfull")
	if err != nil {
		return err
	}
	loaded := strings.Count(modules, "\n")
	for line := range strings.Lines(modules) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "200" && f[1] == "cima" && f[2] == "cil" {
			w.note("%d modules, cima among them in %.0f s", loaded, took.Seconds())
			return labelled("/usr/sbin/cimad", "cimad_exec_t")
		}
	}
	return fmt.Errorf("the module cima must be among the %d modules", loaded)
}

// inForce checks that the kernel enforces the policy, and who and what has which label.
func inForce(ctx context.Context, w *world) error {
	if on, err := os.ReadFile(enforce); err != nil || string(on) != "1" {
		return fmt.Errorf("SELinux must be in force: %q, %v", on, err)
	}
	label, err := labelOf(ctx, "cimad.service")
	if err != nil {
		return err
	}
	if !strings.Contains(label, ":cimad_t:") {
		return fmt.Errorf("cimad runs as %s", label)
	}
	for path, want := range map[string]string{
		"/usr/sbin/cimad":              "cimad_exec_t",
		"/usr/libexec/cima/cima-imds":  "cima_imds_exec_t",
		"/run/cima":                    "cima_socket_t",
		"/run/cima/cima.sock":          "cima_socket_t",
		"/run/cima-admin/admin.sock":   "cima_log_t",
		"/run/cima-lookup/lookup.sock": "cima_log_t",
		runtimeLog:                     "cima_log_t",
	} {
		err = errors.Join(err, labelled(path, want))
	}
	w.note("%s, systemd is %s", label, readLabel("/proc/1/attr/current"))
	return err
}

// labelled checks the type of a file's label.
func labelled(path, want string) error {
	label := make([]byte, 256)
	n, err := syscall.Getxattr(path, "security.selinux", label)
	if err != nil {
		return fmt.Errorf("the label of %s: %w", path, err)
	}
	if !strings.Contains(string(label[:n]), ":"+want+":") {
		return fmt.Errorf("%s has the label %q, and must be %s", path, label[:n], want)
	}
	return nil
}

// labelOf is the label of a unit's main process.
func labelOf(ctx context.Context, unit string) (string, error) {
	label := readLabel("/proc/" + property(ctx, unit, "MainPID") + "/attr/current")
	if label == "" {
		return "", fmt.Errorf("%s has no process with a label", unit)
	}
	return label, nil
}

func readLabel(path string) string {
	label, _ := os.ReadFile(path)
	return strings.Trim(string(label), "\x00\n")
}

func ownLabel() string { return readLabel("/proc/self/attr/current") }

// listen is another service's program: it accepts connections for ever.
func listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}

// reach connects to a socket, in a container.
func reach(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}

// otherSockets starts a service that nobody confines. Its directory and socket get the
// labels of cima's, so that the one thing that can keep a container away from it is the
// service's domain.
func otherSockets(ctx context.Context, w *world) (err error) {
	if _, err := command(ctx, "systemd-run", "--quiet", "--collect", "--unit", otherUnit, "-p", "RuntimeDirectory="+filepath.Base(otherDir), "/opt/vm/inside", "listen", otherSock); err != nil {
		return err
	}
	defer func() {
		_, stopped := command(ctx, "systemctl", "stop", otherUnit)
		err = errors.Join(err, stopped)
	}()
	for reach(otherSock) != nil { // until the check's deadline
		pause(ctx, 500*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	label, err := labelOf(ctx, otherUnit)
	if err != nil {
		return err
	}
	if strings.Contains(label, "cima") {
		return fmt.Errorf("the other service runs as %s", label)
	}
	if _, err := command(ctx, "chcon", "-R", "-t", "cima_socket_t", otherDir); err != nil {
		return err
	}
	if _, err := command(ctx, "cp", "/opt/vm/inside", carried); err != nil {
		return err
	}
	if _, err := command(ctx, "chcon", "-t", "container_file_t", carried); err != nil {
		return err
	}
	for _, e := range []engine{dockerd, rootful} {
		if err := e.reachesCIMA(ctx, w, label); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// reachesCIMA connects to both sockets in a container of the engine.
func (e engine) reachesCIMA(ctx context.Context, w *world, other string) error {
	flags := []string{"-v", carried + ":/inside:ro", "-v", otherDir + ":/other:ro"}
	in := func(program ...string) (string, error) {
		out, _, err := e.start(ctx, "", flags, append([]string{"/inside"}, program...)...)
		return strings.TrimSpace(out), err
	}
	label, err := in("own label")
	if err != nil {
		return err
	}
	if !strings.Contains(label, ":container_t:") {
		return fmt.Errorf("the container runs as %s", label)
	}
	if _, err := in("reach", "/run/cima/cima.sock"); err != nil {
		return err
	}
	before, err := avcs(ctx, "connectto", ":container_t:")
	if err != nil {
		return err
	}
	if _, err := in("reach", "/other/other.sock"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		return fmt.Errorf("a socket of %s must be out of reach of %s: %v", other, label, err)
	}
	after, err := avcs(ctx, "connectto", ":container_t:")
	for range 20 { // the journal needs a moment
		if err != nil || len(after) > len(before) {
			break
		}
		pause(ctx, 500*time.Millisecond)
		after, err = avcs(ctx, "connectto", ":container_t:")
	}
	if err != nil {
		return err
	}
	if len(after) == len(before) {
		return errors.New("the kernel's log must hold the denial of the connection")
	}
	if err := os.WriteFile(enforce, []byte("0"), 0); err != nil {
		return err
	}
	_, err = in("reach", "/other/other.sock")
	w.note("%s, from the other service, %s", label, other)
	return errors.Join(err, os.WriteFile(enforce, []byte("1"), 0))
}

// nothingDenied uses the daemon over a start, a stop and a start by a caller, and looks at
// all that was denied since the boot.
func nothingDenied(ctx context.Context, w *world) error {
	for _, verb := range []string{"restart", "stop"} {
		if _, err := command(ctx, "systemctl", verb, "cimad.service"); err != nil {
			return err
		}
		if err := goodHostEvidence(ctx); err != nil {
			return err
		}
	}
	all, err := avcs(ctx)
	if err != nil {
		return err
	}
	w.keep("denied.txt", []byte(strings.Join(all, "\n")))
	var ours []string
	for _, line := range all {
		if strings.Contains(line, ":cima") { // a domain, or a label
			ours = append(ours, line)
		}
	}
	switch {
	case len(ours) > 0:
		return fmt.Errorf("%d denials, the first is %s", len(ours), ours[0])
	case len(all) == 0:
		return errors.New("the log must hold the containers' denials")
	}
	err = inForce(ctx, w)
	w.note("%d denials since the boot, all of others", len(all))
	return err
}

// avcs are the kernel's lines of denials since the boot that hold all these words.
func avcs(ctx context.Context, words ...string) (lines []string, err error) {
	out, err := command(ctx, "journalctl", "-b", "--no-pager", "-o", "cat")
	if err != nil {
		return nil, err
	}
next:
	for line := range strings.Lines(out) {
		for _, word := range append(words, deniedWord) {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines, nil
}
