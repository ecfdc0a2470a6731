// Package boot answers: how does one predict a boot from the command line?
//
// It is the verb `cimactl predict boot` (cimactl(1)): it reads files, has the packages below
// logs/boot compute what they measure as, and writes a policy, or holds a log against it.
package boot

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/computed"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// flags are what the verb takes.
type flags struct {
	firmware, memory, secureBoot, acpi string
	kernel, initrd, line, handover     string
	uki, options, esp, grub, disk      string
	failed, separator                  int
	name, root, rootWord               string
	hostInput                          []string
	policy, json                       bool
	initrdFirst, retried               bool
	check                              string
}

// Command is `cimactl predict boot`.
func Command() *cobra.Command {
	f := &flags{}
	c := &cobra.Command{
		Use:   "boot --firmware FILE | --kernel FILE | --uki FILE | --grub DIR",
		Short: "Compute MRTD and RTMR0-2 from what is booted",
		Long: `Compute what a TD measures of its boot, from the files that boot it: a policy's
tables on stdout, each value with its origin. With --check, hold a log against
it. Exit status then: 0 all is predicted, 2 an event differs, 6 some stay open.`,
		Example: `  cimactl predict boot --firmware OVMF.fd --memory 4G --uki app.efi
  cimactl predict boot --uki app.efi --check evidence.json`,
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
	}
	f.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return f.run(c) }
	return c
}

func (f *flags) add(c *cobra.Command) {
	text := func(to *string, name, usage string) { c.Flags().StringVar(to, name, "", usage) }
	text(&f.firmware, "firmware", "`FILE`, an OVMF image for TDs")
	text(&f.memory, "memory", "`SIZE` of the TD's memory, as 512M or 4G")
	text(&f.secureBoot, "secure-boot", "`WORD`: absent, off or on, as the firmware was built")
	text(&f.acpi, "acpi", "`DIR` with QEMU's table-loader, rsdp and tables")
	text(&f.kernel, "kernel", "`FILE` for QEMU's -kernel; its path, with --grub")
	text(&f.initrd, "initrd", "`FILE` for QEMU's -initrd; its path, with --grub")
	text(&f.line, "line", "`TEXT` of the kernel's command line")
	text(&f.handover, "handover", "`WORD`: raw (default) or patched, by older QEMU")
	c.Flags().BoolVar(&f.initrdFirst, "initrd-first", false, "newer OVMF puts initrd=initrd before the line")
	text(&f.uki, "uki", "`FILE`, a unified kernel image, by FILE.extra.d")
	text(&f.options, "options", "`TEXT` that the boot entry hands to the image")
	text(&f.esp, "esp", "`DIR`, the EFI system partition with \\loader")
	text(&f.grub, "grub", "`DIR`, the EFI system partition with shim and grub")
	text(&f.disk, "disk", "`FILE`, the disk's image, for its partitions; or none")
	c.Flags().IntVar(&f.failed, "failed", 0, "`N` boot options that fail before the right one")
	c.Flags().IntVar(&f.separator, "separator", 1, "`N` of the last separator's RTMR: 0 or 1")
	c.Flags().BoolVar(&f.retried, "retried", false, "firmware refuses the first ExitBootServices")
	text(&f.name, "name", "`NAME` in the policy (default \"computed\")")
	text(&f.root, "root", "`WORD`: what covers the root (cima-policy(5), ROOT)")
	text(&f.rootWord, "root-word", "`KEY` of the line by which a known initrd covers it")
	c.Flags().StringSliceVar(&f.hostInput, "host-input", nil, "`WORD` of what the system reads of its host, or none")
	c.Flags().BoolVar(&f.policy, "policy", false, "write a whole policy")
	text(&f.check, "check", "`FILE`, evidence or a boot log (CCEL)")
	c.Flags().BoolVar(&f.json, "json", false, "print the events as JSON")
}

func (f *flags) run(c *cobra.Command) error {
	if err := f.sensible(c); err != nil {
		return err
	}
	var b expected.Boot
	firmware, err := f.readFirmware(&b)
	if err != nil {
		return err
	}
	system, err := f.readSystem(&b)
	if err != nil {
		return err
	}
	switch {
	case f.check != "":
		return f.hold(c, &b, firmware)
	case f.json:
		return command.PrintJSON(c, describe(&b, firmware))
	}
	p := computed.Policy{
		Name: f.name, Whole: f.policy, Firmware: firmware, System: system, Boot: &b,
		Root: f.root, RootWord: f.rootWord, HostInput: f.hostInput,
	}
	text, err := p.Write()
	if err != nil {
		return malformed(err)
	}
	for _, n := range b.Notes {
		fmt.Fprintln(c.ErrOrStderr(), "cimactl: note: stays open:", n)
	}
	_, err = c.OutOrStdout().Write(text)
	return err
}

// sensible refuses what does not fit together.
func (f *flags) sensible(c *cobra.Command) error {
	var ways []string
	for _, way := range [][2]string{{f.uki, "--uki"}, {f.grub, "--grub"}} {
		if way[0] != "" {
			ways = append(ways, way[1])
		}
	}
	if f.kernel != "" && f.grub == "" {
		ways = append(ways, "--kernel")
	}
	refuse := func(format string, args ...any) error { return command.Usage(c, fmt.Errorf(format, args...)) }
	switch {
	case len(ways) > 1:
		return refuse("%s must not be given together: a boot begins in one way", strings.Join(ways, " and "))
	case len(ways) == 0 && f.firmware == "":
		return refuse("there must be --firmware, --kernel, --uki or --grub")
	case f.firmware == "" && (f.secureBoot != "" || f.acpi != ""):
		return refuse("--secure-boot and --acpi must come with --firmware")
	case len(ways) == 0 && (f.line+f.initrd+f.options+f.esp+f.disk != "" || f.failed != 0 || f.retried):
		return refuse("--line, --initrd, --options, --esp, --disk, --failed and --retried must come with what is booted")
	case f.separator != 0 && f.separator != 1 || f.failed < 0 || f.failed > maxFailed:
		return refuse("--separator must be 0 or 1, and --failed 0 to %d", maxFailed)
	case f.policy && (f.firmware == "" || len(ways) == 0):
		return refuse("--policy must come with --firmware and with what is booted: less is no policy")
	case f.policy && f.check != "" || f.policy && f.json:
		return refuse("--policy must not come with --check or --json")
	}
	if f.name == "" {
		f.name = "computed"
	}
	return nil
}

// maxFailed bounds --failed; there are that many boot options.
const maxFailed = 1000

// malformed is an error in a file that is predicted.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	var own *command.Failure
	if errors.As(err, &own) {
		return err
	}
	return &command.Failure{Err: err, Code: command.Malformed}
}
