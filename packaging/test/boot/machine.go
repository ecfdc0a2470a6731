package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// deadline bounds one boot: in software emulation it takes a minute.
const deadline = 10 * time.Minute

// machine is what is booted.
type machine struct {
	work           string // a directory of its own
	qemu           []string
	code, vars     string // firmware
	kernel, initrd string // for -kernel
	line           string
	disk           string
}

// measured is what a guest shows of its boot.
type measured struct {
	log  []byte
	pcrs map[int]string // by SHA-384
}

// boot starts a software TPM and QEMU, and reads what the guest prints.
func (m machine) boot() (*measured, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	vars, err := os.ReadFile(m.vars)
	if err != nil {
		return nil, err
	}
	mine, serial, socket := filepath.Join(m.work, "vars.fd"), filepath.Join(m.work, "serial"), filepath.Join(m.work, "tpm.sock")
	if err := os.WriteFile(mine, vars, 0o600); err != nil {
		return nil, err
	}
	tpm := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.work, "--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := tpm.Start(); err != nil {
		return nil, err
	}
	defer func() {
		tpm.Process.Kill()
		tpm.Wait()
	}()
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	args := []string{"-machine", "q35,accel=tcg", "-m", "2G", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:" + serial,
		"-drive", "if=pflash,format=raw,readonly=on,file=" + m.code, "-drive", "if=pflash,format=raw,file=" + mine,
		"-chardev", "socket,id=tpm,path=" + socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"}
	if m.kernel != "" {
		args = append(args, "-kernel", m.kernel, "-initrd", m.initrd, "-append", m.line)
	}
	if m.disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,file="+m.disk, "-device", "virtio-blk-pci,drive=disk")
	}
	qemu := append(append([]string{}, m.qemu...), args...)
	if m.qemu == nil {
		qemu = append([]string{"qemu-system-x86_64"}, args...)
	}
	out, err := exec.CommandContext(ctx, qemu[0], qemu[1:]...).CombinedOutput()
	text, readErr := os.ReadFile(serial)
	if err != nil || readErr != nil {
		return nil, fmt.Errorf("%w: %s: %s", errors.Join(err, readErr), out, tail(text))
	}
	return read(text)
}

func tail(text []byte) []byte { return text[max(0, len(text)-600):] }

// read finds the guest's log and PCRs among what it printed.
func read(text []byte) (*measured, error) {
	part := func(from, to string) ([]byte, error) {
		_, rest, ok := bytes.Cut(text, []byte(from))
		found, _, ended := bytes.Cut(rest, []byte(to))
		if !ok || !ended {
			return nil, fmt.Errorf("the guest printed no %q to %q: %s", from, to, tail(text))
		}
		return found, nil
	}
	log, err := part("CIMA-LOG", "CIMA-PCRS")
	if err != nil {
		return nil, err
	}
	pcrs, err := part("CIMA-PCRS", "CIMA-END")
	if err != nil {
		return nil, err
	}
	m := &measured{pcrs: make(map[int]string)}
	if m.log, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(log)), "")); err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(pcrs)) {
		words := strings.Fields(line)
		if len(words) != 2 {
			continue
		}
		n, err := strconv.Atoi(words[0])
		if b, bad := hex.DecodeString(words[1]); err != nil || bad != nil || len(b) != 48 {
			return nil, fmt.Errorf("the guest printed %q", line)
		}
		m.pcrs[n] = strings.ToLower(words[1])
	}
	return m, nil
}

// initScript shows the boot's log and the TPM's registers, and ends.
const initScript = `#!/bin/busybox sh
busybox mkdir -p /proc /sys
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t securityfs none /sys/kernel/security
busybox dmesg -n 1
echo CIMA-LOG
busybox base64 /sys/kernel/security/tpm0/binary_bios_measurements
echo CIMA-PCRS
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo $i $(busybox cat /sys/class/tpm/tpm0/pcr-sha384/$i); done
echo CIMA-END
busybox find /.extra 2>/dev/null
busybox poweroff -f
`

// makeInitrd writes an initrd whose root file system is all that the guest has.
func makeInitrd(work string) (string, error) {
	tree := filepath.Join(work, "initrd.d")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o755); err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(tree, "bin/busybox"), program, 0o755), os.WriteFile(filepath.Join(tree, "init"), []byte(initScript), 0o755)); err != nil {
		return "", err
	}
	command := exec.Command("cpio", "-o", "-H", "newc", "--quiet", "-F", filepath.Join(work, "initrd.img"))
	command.Dir = tree
	command.Stdin = strings.NewReader("bin\nbin/busybox\ninit\n")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cpio: %w: %s", err, out)
	}
	return filepath.Join(work, "initrd.img"), nil
}
