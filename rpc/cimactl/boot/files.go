package boot

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw/verify/computed"
	"github.com/cima-project/cima/logs/boot/direct"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/logs/boot/firmware"
	"github.com/cima-project/cima/logs/boot/grub"
	"github.com/cima-project/cima/logs/boot/uki"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Bounds of files, in bytes.
const (
	maxFirmware = 64 << 20
	maxKernel   = 512 << 20
	maxInitrd   = 4 << 30
	maxACPI     = 16 << 20
	maxFolder   = 256 // files of a folder
)

// readFirmware computes MRTD and RTMR0; nil without --firmware.
func (f *flags) readFirmware(b *expected.Boot) (*computed.Firmware, error) {
	if f.firmware == "" {
		return nil, nil
	}
	text, err := command.ReadBounded(f.firmware, maxFirmware)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(f.firmware)
	m, err := firmware.Parse(text)
	if err != nil {
		return nil, malformed(fmt.Errorf("%s: %w", f.firmware, err))
	}
	setup := firmware.Setup{SecureBoot: f.secureBoot, Separator: f.separator}
	if setup.Memory, err = size(f.memory); err != nil {
		return nil, err
	}
	if f.acpi != "" {
		for _, file := range []string{"table-loader", "rsdp", "tables"} {
			one, err := command.ReadBounded(filepath.Join(f.acpi, file), maxACPI)
			if err != nil {
				return nil, err
			}
			setup.ACPI = append(setup.ACPI, one)
		}
	}
	if err := m.Events(b, setup, name); err != nil {
		return nil, malformed(fmt.Errorf("%s: %w", f.firmware, err))
	}
	grub.SbatLevels(b)
	sum := sha512.Sum384(text)
	return &computed.Firmware{
		Origin: []string{fmt.Sprintf("Computed from %s, SHA-384 %x.", name, sum)},
		MRTD: []computed.Value{
			{Digest: m.MRTD(firmware.ByPage), Why: name + ", pages added and extended in turn (Linux's KVM)"},
			{Digest: m.MRTD(firmware.BySection), Why: name + ", pages of a section added first (older QEMU)"},
		},
	}, nil
}

// size reads a size of memory.
func size(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	digits, unit := strings.TrimRight(text, "KMGTiB"), uint64(1)
	switch strings.TrimSuffix(strings.TrimSuffix(text[len(digits):], "B"), "i") {
	case "":
	case "K":
		unit = 1 << 10
	case "M":
		unit = 1 << 20
	case "G":
		unit = 1 << 30
	case "T":
		unit = 1 << 40
	default:
		digits = ""
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > math.MaxUint64/unit {
		return 0, fmt.Errorf("--memory %q must be a size in bytes, or with K, M, G or T (powers of 1024)", text)
	}
	return n * unit, nil
}

// readSystem computes RTMR1 and RTMR2; false where only firmware is given.
func (f *flags) readSystem(b *expected.Boot) (bool, error) {
	var err error
	switch {
	case f.uki != "":
		err = f.readUKI(b)
	case f.grub != "":
		err = f.readGrub(b)
	case f.kernel != "":
		err = f.readDirect(b)
	default:
		return false, nil
	}
	return true, err
}

func (f *flags) readDirect(b *expected.Boot) error {
	if f.failed != 0 || f.disk != "" || f.options != "" || f.esp != "" {
		return errors.New("--failed, --disk, --options and --esp must not come with --kernel: QEMU starts it without a disk")
	}
	d := direct.Files{KernelName: filepath.Base(f.kernel), InitrdName: filepath.Base(f.initrd), Line: f.line, Handover: f.handover, Separator: f.separator, InitrdFirst: f.initrdFirst, Retried: f.retried}
	if d.Handover == "" {
		d.Handover = direct.Raw
	}
	var err error
	if d.Memory, err = size(f.memory); err != nil {
		return err
	}
	if d.Kernel, err = command.ReadBounded(f.kernel, maxKernel); err != nil {
		return err
	}
	if f.initrd != "" {
		if d.Initrd, err = command.ReadBounded(f.initrd, maxInitrd); err != nil {
			return err
		}
	}
	return malformed(direct.Boot(b, d))
}

// partitions is the event of the disk's partition table: not computed without --disk, none
// with --disk none.
func (f *flags) partitions(b *expected.Boot) (*expected.Event, error) {
	switch f.disk {
	case "none":
		return nil, nil
	case "":
		b.Notes = append(b.Notes, "partition table: give the disk's image by --disk, or --disk none where it has no GPT")
		open := expected.Open(5, "gpt")
		return &open, nil
	}
	disk, err := os.Open(f.disk)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	head, err := io.ReadAll(io.LimitReader(disk, expected.MaxGPTBytes))
	if err != nil {
		return nil, err
	}
	e, err := expected.GPT(head, filepath.Base(f.disk))
	if err != nil {
		return nil, malformed(fmt.Errorf("%s: %w", f.disk, err))
	}
	return &e, nil
}

func (f *flags) readUKI(b *expected.Boot) error {
	if f.kernel+f.initrd+f.line+f.handover != "" {
		return errors.New("--kernel, --initrd, --line and --handover must not come with --uki: the image has its own; --options is what a boot entry hands over")
	}
	image, err := command.ReadBounded(f.uki, maxKernel)
	if err != nil {
		return err
	}
	u := uki.Files{Image: uki.File{Name: filepath.Base(f.uki), Data: image}, Options: f.options, Failed: f.failed, Separator: f.separator, Retried: f.retried}
	if u.GPT, err = f.partitions(b); err != nil {
		return err
	}
	folders := []struct {
		dir string
		to  *[]uki.File
	}{{f.uki + ".extra.d", &u.Extra}}
	if f.esp != "" {
		if _, err := os.Stat(f.esp); err != nil {
			return err
		}
		for name, to := range map[string]*[]uki.File{"addons": &u.Addons, "credentials": &u.Credentials, "extensions": &u.Extensions} {
			folders = append(folders, struct {
				dir string
				to  *[]uki.File
			}{filepath.Join(f.esp, "loader", name), to})
		}
	}
	for _, folder := range folders {
		if *folder.to, err = filesOf(folder.dir); err != nil {
			return err
		}
	}
	return malformed(uki.Boot(b, u))
}

// filesOf reads the files of a folder; none where the folder isn't there.
func filesOf(dir string) (files []uki.File, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(list) > maxFolder {
		return nil, fmt.Errorf("%s has %d files: it must have at most %d", dir, len(list), maxFolder)
	}
	for _, e := range list {
		if e.IsDir() {
			continue
		}
		data, err := command.ReadBounded(filepath.Join(dir, e.Name()), maxKernel)
		if err != nil {
			return nil, err
		}
		files = append(files, uki.File{Name: e.Name(), Data: data})
	}
	return files, nil
}

func (f *flags) readGrub(b *expected.Boot) error {
	if f.options+f.esp+f.handover != "" {
		return errors.New("--options, --esp and --handover must not come with --grub")
	}
	tree, err := os.OpenRoot(f.grub) // a path of grub.cfg leads nowhere else
	if err != nil {
		return err
	}
	defer tree.Close()
	g := grub.Files{
		Line: f.line, Kernel: f.kernel, Initrd: f.initrd, Failed: f.failed, Separator: f.separator, Retried: f.retried,
		Read: func(name string) ([]byte, error) {
			return readIn(tree, strings.TrimPrefix(path.Clean(name), "/"), maxInitrd)
		},
	}
	if g.GPT, err = f.partitions(b); err != nil {
		return err
	}
	for _, one := range []struct {
		what     string
		patterns []string
		to       *grub.File
	}{
		{"shim", []string{"EFI/BOOT/BOOTX64.EFI"}, &g.Shim},
		{"grub", []string{"EFI/BOOT/grubx64.efi"}, &g.Grub},
		{"grub.cfg", []string{"EFI/*/grub.cfg"}, &g.Config},
	} {
		if *one.to, err = find(tree, one.what, one.patterns); err != nil {
			return err
		}
	}
	return malformed(grub.Boot(b, g))
}

// find is the one file of a tree that fits a pattern.
func find(tree *os.Root, what string, patterns []string) (grub.File, error) {
	var found []string
	for _, pattern := range patterns {
		names, err := fs.Glob(tree.FS(), pattern)
		if err != nil {
			return grub.File{}, err
		}
		found = append(found, names...)
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) != 1 {
		return grub.File{}, fmt.Errorf("%s must be there once, as %s: found %q", what, strings.Join(patterns, " or "), found)
	}
	data, err := readIn(tree, found[0], maxKernel)
	return grub.File{Name: found[0], Data: data}, err
}

func readIn(tree *os.Root, name string, most int64) ([]byte, error) {
	file, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s must have at most %d bytes", name, most)
	}
	return data, err
}
