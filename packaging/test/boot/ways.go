package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cima-project/cima/logs/boot/boottest"
)

// way is how a system boots: its files, and what cimactl is told of them.
type way struct {
	name string
	make func(s suite, work, initrd string) (m machine, predict []string, err error)
}

var ways = []way{{"direct", direct}, {"direct-qemu10", directByNewQEMU}, {"uki", unified}, {"grub", shimAndGrub}}

const line = "console=ttyS0 quiet"

// direct boots by QEMU's -kernel. This machine's QEMU hands over a patched kernel.
func direct(s suite, work, initrd string) (machine, []string, error) {
	kernel, err := must(s.kernel(), "kernel")
	m := machine{kernel: kernel, initrd: initrd, line: line}
	predict := []string{"--kernel", kernel, "--initrd", initrd, "--line", line, "--memory", "2G", "--handover", "patched", "--root", "initrd"}
	if s.name == "sid" { // OVMF 2026.08
		predict = append(predict, "--initrd-first")
	}
	return m, predict, err
}

// directByNewQEMU boots by the -kernel of Debian 13's QEMU 10.0, which hands over the file as
// it is to an OVMF that asks for it.
func directByNewQEMU(s suite, work, initrd string) (machine, []string, error) {
	m, predict, err := direct(s, work, initrd)
	root := filepath.Join(filepath.Dir(s.files), "files-trixie-whole")
	m.qemu = []string{root + "/usr/lib64/ld-linux-x86-64.so.2", "--library-path", root + "/usr/lib/x86_64-linux-gnu",
		root + "/usr/bin/qemu-system-x86_64", "-L", root + "/usr/share/qemu", "-L", root + "/usr/share/seabios"}
	if s.name != "bookworm" { // OVMF 2022.11 doesn't ask
		for i, word := range predict {
			if word == "patched" {
				predict[i] = "raw"
			}
		}
	}
	return m, predict, err
}

// unified boots a UKI of systemd's stub with an add-on, a credential of its own and one for
// all images.
func unified(s suite, work, initrd string) (m machine, predict []string, err error) {
	stub, err := must(s.glob("usr/lib/systemd/boot/efi/linuxx64.efi.stub"), "stub")
	if err != nil {
		return m, nil, err
	}
	addonStub := s.glob("usr/lib/systemd/boot/efi/addonx64.efi.stub")
	if addonStub == "" {
		return m, nil, errOlder
	}
	var sections []boottest.Section
	for _, one := range [][2]string{{".linux", s.kernel()}, {".initrd", initrd}} {
		data, err := os.ReadFile(one[1])
		if err != nil {
			return m, nil, err
		}
		sections = append(sections, boottest.Section{Name: one[0], Data: data})
	}
	sections = append(sections, boottest.Section{Name: ".cmdline", Data: []byte(line)}, boottest.Section{Name: ".osrel", Data: []byte("ID=proof\n")})
	esp := filepath.Join(work, "esp")
	image := filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI")
	for to, part := range map[string]func() ([]byte, error){
		image: func() ([]byte, error) { return put(stub, sections...) },
		image + ".extra.d/x.addon.efi": func() ([]byte, error) {
			parts := []boottest.Section{{Name: ".cmdline", Data: []byte("proof.addon=1")}}
			if s.name == "sid" { // older stubs measure these to a TPM, and not to a TD's registers
				parts = append(parts, boottest.Section{Name: ".ucode", Data: []byte(noFiles)}, boottest.Section{Name: ".initrd", Data: []byte(noFiles)})
			}
			return put(addonStub, parts...)
		},
		image + ".extra.d/own.cred":          func() ([]byte, error) { return []byte("its own credential"), nil },
		esp + "/loader/credentials/all.cred": func() ([]byte, error) { return []byte("a credential for all"), nil },
	} {
		data, err := part()
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o600))
		}
		if err != nil {
			return m, nil, err
		}
	}
	m.disk, err = makeDisk(work, esp)
	return m, []string{"--uki", image, "--esp", esp, "--disk", m.disk, "--root", "initrd"}, err
}

// noFiles is an archive of cpio with none.
const noFiles = "07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000TRAILER!!!\x00\x00\x00\x00"

func put(stub string, sections ...boottest.Section) ([]byte, error) {
	b, err := os.ReadFile(stub)
	if err != nil {
		return nil, err
	}
	return boottest.Append(b, sections...), nil
}

// errOlder is of a release whose boot loaders are older than what is known.
var errOlder = errors.New("its boot loader is older than those that are predicted, and cimactl refuses it")

// shimAndGrub boots Debian's signed shim and grub with a literal grub.cfg.
func shimAndGrub(s suite, work, initrd string) (m machine, predict []string, err error) {
	esp := filepath.Join(work, "esp")
	const config = "set timeout=0\nmenuentry 'proof of a boot' --id proof {\n\tlinux /vmlinuz " + line + " \"two words\"\n\tinitrd /initrd.img\n}\n"
	if err := os.MkdirAll(filepath.Join(esp, "EFI/debian"), 0o755); err != nil {
		return m, nil, err
	}
	if err := os.WriteFile(filepath.Join(esp, "EFI/debian/grub.cfg"), []byte(config), 0o600); err != nil {
		return m, nil, err
	}
	for to, from := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI": s.glob("usr/lib/shim/shimx64.efi.signed"),
		"EFI/BOOT/grubx64.efi": s.glob("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
		"vmlinuz":              s.kernel(), "initrd.img": initrd,
	} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(esp, to)), 0o755), os.WriteFile(filepath.Join(esp, to), data, 0o600))
		}
		if err != nil {
			return m, nil, fmt.Errorf("%s: %w", to, err)
		}
	}
	m.disk, err = makeDisk(work, esp)
	return m, []string{"--grub", esp, "--disk", m.disk, "--root", "initrd"}, err
}
