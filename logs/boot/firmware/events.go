package firmware

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/logs/boot/expected"
)

// Setup is what an image is given, and what its build decides.
type Setup struct {
	Memory     uint64   // bytes of the TD; 0 where nobody knows
	SecureBoot string   // "absent" in a build without it, "off" or "on"; "" where nobody knows
	ACPI       [][]byte // etc/table-loader, etc/acpi/rsdp, etc/acpi/tables of QEMU's fw_cfg; nil where nobody knows
	// Separator is the register that has the separator before the boot: 1, and 0 by
	// firmware of the first years.
	Separator int
}

// secureBoots are the words of Setup.SecureBoot.
var secureBoots = []string{"absent", "off", "on"}

// acpi are the files whose digests firmware measures, in its order.
var acpi = [3]string{"etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"}

// Events adds the events of RTMR0. file names the image, for people.
func (m *Image) Events(b *expected.Boot, s Setup, file string) error {
	if s.ACPI != nil && len(s.ACPI) != len(acpi) {
		return fmt.Errorf("ACPI must be %d files: %q", len(acpi), acpi)
	}
	volume, err := m.configVolume()
	if err != nil {
		return err
	}
	if err := m.handoff(b, s.Memory, file); err != nil {
		return err
	}
	b.Add(expected.Of(1, "cfv", "configuration volume", file, volume))
	if err := m.policy(b, s.SecureBoot, file); err != nil {
		return err
	}
	b.Add(expected.Separator(7))
	for i, name := range acpi {
		if s.ACPI == nil {
			b.Add(expected.Open(1, "acpi"))
		} else {
			b.Add(expected.Of(1, "acpi", "ACPI: "+name, "QEMU's fw_cfg "+name, s.ACPI[i]))
		}
	}
	if s.ACPI == nil {
		b.Notes = append(b.Notes, "ACPI tables: QEMU and its options decide; read them from fw_cfg of any guest with the same ones")
	}
	b.Add(expected.OpenMany(1, "boot"))
	usualOptions(b)
	b.Notes = append(b.Notes, "boot options in RTMR0: the guest's devices decide")
	if s.Separator == 0 {
		b.Add(expected.Separator(1), expected.OpenMany(7, "authority"))
	}
	return nil
}

// handoff adds the hand-off block; without the size of memory, which sizes explain a log.
func (m *Image) handoff(b *expected.Boot, memory uint64, file string) error {
	if memory > 0 {
		block, err := m.handoffBlocks(memory)
		if err != nil {
			return err
		}
		b.Add(expected.Of(1, "hob", "hand-off block", fmt.Sprintf("%s and %d MiB of memory", file, memory>>20), block))
		return nil
	}
	b.Add(expected.Open(1, "hob"))
	b.Notes = append(b.Notes, "hand-off block: the TD's memory decides; give its size")
	for size := uint64(1 << 30); size <= 1<<40; size += 512 << 20 {
		block, err := m.handoffBlocks(size)
		if err != nil {
			return err
		}
		e := expected.Of(1, "hob", fmt.Sprintf("hand-off block of %d MiB of memory", size>>20), file, block)
		b.Others = append(b.Others, e.Choices...)
	}
	return nil
}

// policy adds the variables of secure boot, which the image holds or leaves empty.
func (m *Image) policy(b *expected.Boot, word, file string) error {
	stored, err := m.variables()
	if err != nil {
		return err
	}
	value := func(vendor [16]byte, name string) []byte {
		i := slices.IndexFunc(stored, func(v variable) bool { return v.guid == vendor && v.name == name })
		if i < 0 {
			return nil
		}
		return stored[i].value
	}
	add := func(vendor [16]byte, name string, data []byte) {
		what := name
		if len(data) == 0 {
			what += " empty"
		}
		b.Add(expected.Of(7, "variable", what, file, expected.VariableData(vendor, name, data)))
	}
	e := expected.Event{PCR: 7, Kind: "secure-boot"}
	for i, data := range [][]byte{nil, {0}, {1}} {
		if word != "" && word != secureBoots[i] {
			continue
		}
		one := expected.Of(7, "", "SecureBoot "+secureBoots[i], "the firmware's build", expected.VariableData(expected.GlobalGUID, "SecureBoot", data))
		e.Choices = append(e.Choices, one.Choices...)
	}
	switch len(e.Choices) {
	case 0:
		return errors.New("secure boot must be absent, off or on")
	case 1:
	default:
		b.Notes = append(b.Notes, "SecureBoot: the firmware's build decides; say which it is")
	}
	b.Add(e)
	add(expected.GlobalGUID, "PK", value(expected.GlobalGUID, "PK"))
	add(expected.GlobalGUID, "KEK", value(expected.GlobalGUID, "KEK"))
	add(expected.SecurityGUID, "db", value(expected.SecurityGUID, "db"))
	add(expected.SecurityGUID, "dbx", value(expected.SecurityGUID, "dbx"))
	if dbt := value(expected.SecurityGUID, "dbt"); dbt != nil {
		add(expected.SecurityGUID, "dbt", dbt)
	}
	return nil
}

// usualOptions explain boot options of OVMF's own. Their events hash the value alone.
func usualOptions(b *expected.Boot) {
	const from = "OVMF"
	for _, order := range [][]byte{{0, 0}, {1, 0, 0, 0}, {0, 0, 1, 0}} {
		b.Others = append(b.Others, expected.Of(1, "", fmt.Sprintf("BootOrder %x", order), from, order).Choices...)
	}
	// EFI_LOAD_OPTION: attributes, the path's length, name, path: Fv(…)/FvFile(…).
	option := append([]byte("\x09\x01\x00\x00\x2c\x00"), expected.Wide("UiApp", true)...)
	option = append(option, "\x04\x07\x14\x00\xc9\xbd\xb8\x7c\xeb\xf8\x34\x4f\xaa\xea\x3e\xe4\xaf\x65\x16\xa1"+
		"\x04\x06\x14\x00\x21\xaa\x2c\x46\x14\x76\x03\x45\x83\x6e\x8a\xb6\xf4\x66\x23\x31\x7f\xff\x04\x00"...)
	b.Others = append(b.Others, expected.Of(1, "", "Boot0000 UiApp", from, option).Choices...)
}
