package policy

import (
	"slices"

	"github.com/cima-project/cima/hw/verify/cmdline"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/tables"
)

// firmware is [firmware.NAME]: what runs before the boot loader.
type firmware struct {
	name string
	validity
	mrtd  []string
	rtmr0 register
}

// system is [system.NAME]: boot loader, kernel, initrd and command line.
type system struct {
	name string
	validity
	codes.Wish
	rtmr1, rtmr2 register
	line         *cmdline.Line // nil where the policy doesn't say it
	osLog        bool          // the operating system extends RTMR2 after the boot
	gaps         []string      // codes of what no register covers
}

// measured is [measured.NAME]: what the launch measurement of an SNP guest covers.
type measured struct {
	name string
	validity
	codes.Wish
	measurements []string
	gaps         []string // codes of what it does not cover
}

// bootRule is [[boot]]: any of these firmwares with any of these systems, of a TD; or any
// of these measurements, of an SNP guest; or any of these TPMs in a paravisor.
type bootRule struct {
	name string
	validity
	codes.Wish
	firmware, system, measured, vtpm []string
}

func readFirmware(t *tables.Table, name string) *firmware {
	f := &firmware{name: name, validity: readValidity(t), mrtd: t.Texts("mrtd", digest384), rtmr0: readRegister(t, "rtmr0")}
	if len(f.mrtd) == 0 {
		t.Bad("mrtd", "there: without it, no value covers the firmware")
	}
	t.Done()
	return f
}

// Values of covers: what a launch measurement is over, by the word of who wrote the policy.
const (
	coversFirmware = "firmware" // the firmware alone: it boots what the host shows it
	coversSystem   = "system"   // kernel, initrd and command line too
)

func readMeasured(t *tables.Table, name string) *measured {
	m := &measured{name: name, validity: readValidity(t), Wish: codes.Read(t), measurements: t.Texts("measurement", digest384)}
	if len(m.measurements) == 0 {
		t.Bad("measurement", "there: without it, nothing says what was launched")
	}
	switch covers := t.Text("covers"); covers {
	case coversFirmware:
		m.gaps = []string{codes.BootFirmware}
	case coversSystem:
		m.gaps = append(readRoot(t, readLine(t)), readHostInput(t)...)
	default:
		t.Bad("covers", "%q, or %q where kernel, initrd and command line are measured with it", coversFirmware, coversSystem)
	}
	t.Done()
	return m
}

func readSystem(t *tables.Table, name string) *system {
	s := &system{name: name, validity: readValidity(t), Wish: codes.Read(t), osLog: t.Flag("os_log"), rtmr1: readRegister(t, "rtmr1"), rtmr2: readRegister(t, "rtmr2")}
	if s.rtmr1.open() || s.rtmr2.open() {
		s.gaps = append(s.gaps, codes.BootVaries)
	}
	if s.line = readLine(t); s.line != nil && s.rtmr2.sequence != nil && !s.rtmr2.has(s.line.Digests()) {
		t.Bad("line", "the text of an event in rtmr2, in UTF-8 or UTF-16, with or without a NUL")
	}
	s.gaps = append(s.gaps, readRoot(t, s.line)...)
	s.gaps = append(s.gaps, readHostInput(t)...)
	t.Done()
	return s
}

// readLine reads a command line; nil where there is none, or it is refused.
func readLine(t *tables.Table) *cmdline.Line {
	text := t.Text("line")
	if text == "" {
		return nil
	}
	line, err := cmdline.Read(text)
	if err != nil {
		t.Fault(t.At("line"), "%s: line: %v", t.Title, err)
		return nil
	}
	return line
}

// root reads how the root file system is covered, and returns the codes of what is not.
func readRoot(t *tables.Table, line *cmdline.Line) (gaps []string) {
	root, own := t.Text("root"), t.Text("root_word")
	if must := tables.OneOf("word", cmdline.Roots)(root); must != "" {
		t.Bad("root", "there, and say how the root file system is covered: %s", must)
		return nil
	}
	switch {
	case root == cmdline.NotCovered:
		gaps = append(gaps, codes.Root)
	case line == nil:
		t.Fault(t.At("root"), "%s: root = %q must come with line: the whole command line", t.Title, root)
		return nil
	default:
		if err := line.Covers(root, own); err != nil {
			t.Fault(t.At("root"), "%s: root = %q, and the line doesn't cover it so: %v", t.Title, root, err)
		}
		if root == cmdline.IMA {
			gaps = append(gaps, codes.RootPartly)
		}
	}
	if line != nil && len(line.Opens()) > 0 {
		gaps = append(gaps, codes.LineOpens)
	}
	return gaps
}

// hostInput reads what the system reads of its host.
func readHostInput(t *tables.Table) (gaps []string) {
	list := t.Texts("host_input", tables.OneOf("word", append([]string{"none"}, codes.HostInputs()...)))
	switch {
	case len(list) == 0:
		t.Bad("host_input", `there: what the system reads of its host that no register covers, of %s, or "none"`, names(codes.HostInputs()))
	case slices.Contains(list, "none") && len(list) > 1:
		t.Bad("host_input", `"none", or a list without it`)
	}
	for _, name := range list {
		if name != "none" {
			gaps = append(gaps, codes.HostInput+name)
		}
	}
	return gaps
}

func readBoot(t *tables.Table) *bootRule {
	b := &bootRule{name: t.Text("name"), validity: readValidity(t), Wish: codes.Read(t), firmware: t.Texts("firmware", tables.AnyText), system: t.Texts("system", tables.AnyText), measured: t.Texts("measured", tables.AnyText), vtpm: t.Texts("vtpm", tables.AnyText)}
	if b.name == "" {
		t.Bad("name", "there")
	}
	switch {
	case b.measured != nil && (b.firmware != nil || b.system != nil || b.vtpm != nil), b.vtpm != nil && (b.firmware != nil || b.system != nil):
		t.Fault(t.Path, "%s must have firmware and system, of a TD, or measured, of an SNP guest, or vtpm", t.Title)
	case len(b.measured) > 0, len(b.vtpm) > 0:
	case len(b.firmware) == 0 || len(b.system) == 0:
		t.Fault(t.Path, "%s must have firmware and system: less doesn't cover a boot", t.Title)
	}
	t.Done()
	return b
}
