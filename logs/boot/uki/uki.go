// Package uki answers: what does a unified kernel image measure?
//
// It follows systemd-stub (src/boot/stub.c) from version 257 on: the sections of the image,
// the command line, add-ons, and the archives that the stub makes of credentials and
// extensions on the EFI system partition. It does no I/O.
package uki

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/expected"
)

// Registers of a TPM that the stub extends (UAPI, Linux TPM PCR registry).
const (
	pcrCode   = 4
	pcrKernel = 11
	pcrConfig = 12
	pcrSysext = 13
)

// oldest is the first version of systemd-stub whose measurements are known here, and
// addons that from which on add-ons' initrds and microcode extend an RTMR.
const (
	oldest = 257
	addons = 261
)

// File is a file of the EFI system partition.
type File struct {
	Name string
	Data []byte
}

// Files are what firmware boots, and what lies beside it.
type Files struct {
	Image File
	// Options is what the boot option hands over in the place of .cmdline; "" for nothing.
	Options string
	Extra   []File // IMAGE.extra.d: add-ons, credentials, extensions
	Addons  []File // \loader\addons
	// Credentials are those of \loader\credentials, Extensions those of \loader\extensions.
	Credentials, Extensions []File

	GPT       *expected.Event // the disk's partition table; nil where firmware measures none
	Failed    int             // boot options that failed before
	Separator int             // the register that has the separator before the boot
	Retried   bool            // firmware refuses the first call of ExitBootServices
}

// measured are the sections that the stub measures, in its order.
var measured = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".hwids", ".efifw"}

// unknown are sections that choose others at boot.
var unknown = []string{".profile", ".dtbauto"}

// stub is a boot in the making.
type stub struct {
	b       *expected.Boot
	f       Files
	program *authenticode.Program
	version int
	addons  []addon
}

// Boot computes RTMR1 and RTMR2.
func Boot(b *expected.Boot, f Files) error {
	p, err := authenticode.Parse(f.Image.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Image.Name, err)
	}
	s := &stub{b: b, f: f, program: p}
	for _, step := range []func() error{s.check, s.readAddons, s.code, s.sections, s.settleLine, s.initrds} {
		if err := step(); err != nil {
			return fmt.Errorf("%s: %w", f.Image.Name, err)
		}
	}
	return nil
}

var info = regexp.MustCompile(`#### LoaderInfo: systemd-stub ([0-9]+)[^#]*####`)

// check refuses what this package would predict wrongly.
func (s *stub) check() error {
	names := s.program.Names()
	for _, name := range append(slices.Clone(measured), unknown...) {
		n := 0
		for _, other := range names {
			if other == name {
				n++
			}
		}
		if n > 1 || n == 1 && slices.Contains(unknown, name) {
			return fmt.Errorf("section %s is there %d times: images that choose their sections at boot are not known", name, n)
		}
	}
	if !s.program.Has(".linux") {
		return errors.New("no unified kernel image: it has no section .linux")
	}
	magic, err := s.program.Section(".sdmagic")
	if err != nil {
		return err
	}
	m := info.FindSubmatch(magic)
	if m == nil {
		return errors.New("the section .sdmagic must name a version of systemd-stub: other stubs are not known")
	}
	if s.version, err = strconv.Atoi(string(m[1])); err != nil || s.version < oldest {
		return fmt.Errorf("systemd-stub has version %s: it must be at least %d", m[1], oldest)
	}
	return nil
}

// section is one that is there, by the image's own bytes.
func (s *stub) section(name string) []byte {
	data, _ := s.program.Section(name) // sections, which runs first, reported the error
	return data
}

// code adds RTMR1: firmware measures the image, and the add-ons that the stub loads. Up to
// version 257 the stub had firmware load the kernel, too; later ones start it themselves.
func (s *stub) code() error {
	s.b.Add(expected.Start(s.f.Failed, s.f.Separator)...)
	if s.f.GPT != nil {
		s.b.Add(*s.f.GPT)
	}
	s.b.Add(expected.Known(pcrCode, "uki", "unified kernel image", s.f.Image.Name, s.program.Digest()))
	for _, a := range s.addons {
		s.b.Add(expected.Known(pcrCode, "addon", "add-on", a.name, a.program.Digest()))
	}
	linux, err := s.program.Section(".linux")
	if err != nil {
		return err
	}
	kernel, err := authenticode.Parse(linux)
	if err != nil {
		return fmt.Errorf(".linux: %w", err)
	}
	if s.version == oldest {
		s.b.Add(expected.Known(pcrCode, "kernel", "kernel", s.f.Image.Name+": .linux", kernel.Digest()))
	}
	s.b.Exit(s.f.Retried)
	return nil
}

// sections adds name and content of each section.
func (s *stub) sections() error {
	for _, name := range measured {
		data, err := s.program.Section(name)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			continue
		}
		from := s.f.Image.Name + ": " + name
		s.b.Add(expected.Of(pcrKernel, "section-name", "name of section "+name, from, []byte(name+"\x00")),
			expected.Of(pcrKernel, "section", "section "+name, from, data))
	}
	return nil
}

// settleLine adds what the stub measures of the command line; the kernel's own event of it
// comes last. Secure boot would drop Options: then nobody hands any over.
func (s *stub) settleLine() error {
	line := mangle(s.f.Options)
	if line != "" {
		s.lineEvent("options", "options of the boot entry", line)
	} else {
		text, err := plain(s.section(".cmdline"))
		if err != nil {
			return fmt.Errorf(".cmdline: %w", err)
		}
		line = mangle(text)
	}
	var more []string
	for _, a := range s.addons {
		if a.counts && a.line != "" {
			more = append(more, a.line)
		}
	}
	if added := mangle(strings.Join(more, " ")); added != "" {
		s.lineEvent("addon-line", "command line of add-ons", added)
		line = strings.TrimSpace(line + " " + added)
	}
	if line == "" {
		return errors.New("there is no command line: without one it depends on the kernel what is measured")
	}
	s.b.Line = line
	return nil
}

func (s *stub) lineEvent(kind, what, text string) {
	s.b.Add(expected.Of(pcrConfig, kind, what, "its text, in UTF-16", expected.Wide(text, true)))
}

// plain reads a section's text up to its NUL. Text that is not ASCII is refused: the stub
// and this program could read it differently.
func plain(b []byte) (string, error) {
	b, _, _ = bytes.Cut(b, []byte{0})
	for _, c := range b {
		if c >= 0x80 {
			return "", errors.New("the text must be ASCII")
		}
	}
	return string(b), nil
}

// mangle is the stub's mangle_stub_cmdline: no white space at the ends, and control
// characters are spaces.
func mangle(line string) string {
	space := func(r rune) bool { return r <= ' ' || r == 0x7f }
	return strings.Map(func(r rune) rune {
		if space(r) {
			return ' '
		}
		return r
	}, strings.TrimFunc(line, space))
}

// byHost reports whether the stub adds a console= to the line, by devices that the host
// chooses: newer versions do where the line has none, and measure it nowhere but in the
// kernel's own event.
func (s *stub) byHost() bool {
	return s.version > oldest && !strings.HasPrefix(s.b.Line, "console=") && !strings.Contains(s.b.Line, " console=")
}
