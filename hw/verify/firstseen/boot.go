package firstseen

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/cmdline"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs/boot"
)

type firmware struct{ mrtd, rtmr0 hw.Digest }

type system struct {
	rtmr1, rtmr2 hw.Digest
	osLog        bool
	line         string
}

// boots writes what was booted. Firmware, and what it boots, are apart: any of these is
// known with any of those.
func (w *writer) boots() {
	var firmwares []firmware
	var systems []system
	for _, s := range w.seen {
		b := s.Booted
		f := firmware{b.MRTD, b.RTMR[0]}
		if !slices.Contains(firmwares, f) {
			firmwares = append(firmwares, f)
		}
		y := system{b.RTMR[1], b.RTMR[2], b.Further, lineOf(b.Log)}
		if !slices.Contains(systems, y) {
			systems = append(systems, y)
		}
	}
	var boot struct{ firmware, system []string }
	for i, f := range firmwares {
		boot.firmware = append(boot.firmware, fmt.Sprint("first-seen-", i+1))
		w.table("[firmware."+boot.firmware[i]+"]", "What runs before the boot loader, its variables and ACPI tables.")
		w.asSeen("mrtd", f.mrtd)
		w.asSeen("rtmr0", policy.ValueWord(f.rtmr0))
	}
	for i, s := range systems {
		boot.system = append(boot.system, fmt.Sprint("first-seen-", i+1))
		w.table("[system."+boot.system[i]+"]", "Boot loader, kernel, initrd and command line.")
		w.asSeen("rtmr1", policy.ValueWord(s.rtmr1))
		w.asSeen("rtmr2", policy.ValueWord(s.rtmr2))
		if s.osLog {
			w.comment("The operating system extends RTMR2 after the boot (IMA): the value is the boot's.")
			w.value("os_log", true)
		}
		w.root(s.line)
		w.comment("What the system reads of its host that no register covers: of smbios, fw_cfg,",
			"metadata, aml, disk, console, agent; or none. Look at its image.")
		w.value("host_input", "unknown")
	}
	w.table("[[boot]]", "Everything else rests on it.")
	w.value("name", "as first seen")
	w.value("firmware", boot.firmware)
	w.value("system", boot.system)
}

// gapsOf are the codes of what is not proved of a system with that command line.
func gapsOf(text string) []string {
	gaps := []string{codes.HostUnknown}
	line, err := cmdline.Read(text)
	if err != nil || covering(line) == cmdline.NotCovered {
		gaps = append(gaps, codes.Root)
	}
	if err == nil && len(line.Opens()) > 0 {
		gaps = append(gaps, codes.LineOpens)
	}
	return gaps
}

// covering is how a line covers the root file system. That a system has none besides its
// initrd is not for a line to say.
func covering(line *cmdline.Line) string {
	for _, how := range []string{cmdline.Verity, cmdline.Composefs} {
		if line.Text != "" && line.Covers(how, "") == nil {
			return how
		}
	}
	return cmdline.NotCovered
}

// root writes the command line, where the log proves one, and how it covers the root file
// system: not at all, unless it says so.
func (w *writer) root(text string) {
	root := cmdline.NotCovered
	if text == "" {
		w.comment("The log proves no command line: without one nobody knows what covers the root file system.")
		w.value("root", root)
		return
	}
	w.asSeen("line", text)
	line, err := cmdline.Read(text)
	if err == nil {
		root, err = covering(line), line.Covers(cmdline.Verity, "")
	}
	if root == cmdline.NotCovered {
		w.comment("Nothing on the line covers the root file system: " + quoted(fmt.Sprint(err)))
	} else {
		w.comment("The line says so; it holds if the initrd does as it is told.")
	}
	w.value("root", root)
}

// lineOf is the command line in the boot log that its event's digest covers; "" where
// there is none, or several.
func lineOf(log *boot.Log) string {
	if log == nil {
		return ""
	}
	var found []string
	for _, e := range log.UnverifiedEvents() { // proved by now: they replay to the quote's registers
		if rtmr, ok := e.Extends(); !ok || rtmr != 2 {
			continue
		}
		for _, text := range candidates(e.Data) {
			line, err := cmdline.Read(text)
			if err == nil && slices.Contains(line.Digests(), [48]byte(e.Digest)) {
				found = append(found, text)
				break
			}
		}
	}
	if found = unique(found); len(found) != 1 {
		return ""
	}
	return found[0]
}

// candidates are the texts of a command line that an event's data may have: behind grub's
// label, up to a NUL.
func candidates(data []byte) (texts []string) {
	for _, label := range []string{"kernel_cmdline: ", "grub_kernel_cmdline ", "grub_kernel_cmdline: "} {
		if rest, ok := bytes.CutPrefix(data, []byte(label)); ok {
			text, _, _ := strings.Cut(string(rest), "\x00")
			texts = append(texts, text)
		}
	}
	if text, ok := wide(data); ok {
		texts = append(texts, text)
	}
	return texts
}

// wide reads UTF-16 that looks like a command line.
func wide(data []byte) (string, bool) {
	if len(data) < 4 || len(data)%2 != 0 || data[1] != 0 || data[3] != 0 {
		return "", false
	}
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, binary.LittleEndian.Uint16(data))
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00"), true
}
