// Package grub answers: what does a boot by shim and grub measure?
//
// It reads shim, grub and grub.cfg. Where the configuration is literal, each event is
// computed; where it has variables or conditions, what grub does with it stays open, and
// the kernel, its command line and its initrd are known all the same. It does no I/O.
package grub

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/expected"
)

// Registers of a TPM that firmware and grub extend.
const (
	pcrCode    = 4
	pcrCommand = 8
	pcrFile    = 9
)

// Files are what firmware boots, and how the files that grub names are read.
type Files struct {
	Shim, Grub, Config File
	// Read reads a file that grub.cfg names, by its path.
	Read func(path string) ([]byte, error)
	// Line is the command line behind the kernel's file name, for a grub.cfg that is not
	// literal; Kernel and Initrd are the paths of its files then.
	Line, Kernel, Initrd string

	GPT       *expected.Event // the disk's partition table; nil where firmware measures none
	Failed    int             // boot options that failed before
	Separator int             // the register that has the separator before the boot
	Retried   bool            // firmware refuses the first call of ExitBootServices
}

// File is a file with its name.
type File struct {
	Name string
	Data []byte
}

// version finds grub's in its section .sbat.
var version = regexp.MustCompile(`(?m)^grub,[0-9]+,[^,\n]*,grub,([0-9]+)\.([0-9]+)`)

// distribution is in the section .sbat of Debian's and Ubuntu's grub. Their embedded
// configuration looks whether grub.cfg is there before it reads it.
var distribution = regexp.MustCompile(`(?m)^grub\.peimage,`)

// Boot computes RTMR1 and RTMR2.
func Boot(b *expected.Boot, f Files) error {
	shim, err := authenticode.Parse(f.Shim.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Shim.Name, err)
	}
	program, err := authenticode.Parse(f.Grub.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Grub.Name, err)
	}
	sbat, err := program.Section(".sbat")
	if err != nil {
		return fmt.Errorf("%s: %w", f.Grub.Name, err)
	}
	m := version.FindSubmatch(sbat)
	if m == nil {
		return fmt.Errorf("%s: no grub: its section .sbat names no version", f.Grub.Name)
	}
	v := string(m[1]) + "." + string(m[2])
	if v != "2.12" && v != "2.14" || !distribution.Match(sbat) {
		return fmt.Errorf("%s has version %s: 2.12 and 2.14 of Debian and Ubuntu are known", f.Grub.Name, v)
	}
	byFirmware := v != "2.12" // later, firmware loads the kernel, and not grub
	if err := shimLists(b, shim, f.Shim.Name); err != nil {
		return fmt.Errorf("%s: %w", f.Shim.Name, err)
	}
	s := &session{b: b, f: f}
	if err := s.configuration(); err != nil {
		return err
	}
	kernel, err := authenticode.Parse(s.kernel.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", s.kernel.Name, err)
	}
	b.Add(expected.Start(f.Failed, f.Separator)...)
	if f.GPT != nil {
		b.Add(*f.GPT)
	}
	b.Add(expected.Known(pcrCode, "shim", "shim", f.Shim.Name, shim.Digest()),
		expected.Known(pcrCode, "grub", "grub", f.Grub.Name, program.Digest()))
	if byFirmware {
		b.Add(expected.Known(pcrCode, "kernel", "kernel", s.kernel.Name, kernel.Digest()))
	}
	b.Exit(f.Retried)
	b.Line = "BOOT_IMAGE=" + s.line
	b.Add(expected.LoadOptions(b.Line, f.Config.Name, byFirmware))
	if s.initrd.Data != nil {
		b.Add(expected.Initrd(s.initrd.Name, s.initrd.Data))
	}
	return nil
}

// session is what grub does, from its configuration to the kernel.
type session struct {
	b              *expected.Boot
	f              Files
	kernel, initrd File
	line           string // the kernel's path, and its arguments
}

// configuration adds what grub measures; where the configuration varies, what is certain.
func (s *session) configuration() error {
	list, err := script(string(s.f.Config.Data))
	var chosen *command
	var events []expected.Event
	if err == nil {
		chosen, err = entry(list)
	}
	if err == nil {
		events, err = s.literal(list, chosen)
	}
	if errors.Is(err, errVaries) {
		s.b.Notes = append(s.b.Notes, fmt.Sprintf("%s: %v; grub's commands stay open, and are measured", s.f.Config.Name, err))
		return s.varying()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.f.Config.Name, err)
	}
	s.b.Add(events...)
	return nil
}

// literal are the events of a configuration that has one meaning.
func (s *session) literal(list []command, chosen *command) ([]expected.Event, error) {
	config := s.file("grub.cfg", s.f.Config)
	events := []expected.Event{config, config} // it is opened twice, and each time measured
	for _, c := range list {
		if c.block == "" && !harmless(c.words) {
			return nil, varies(c.line, "%s may read files, or lead elsewhere", c.words[0])
		}
		events = append(events, s.command(c.line, c.text()))
	}
	title, err := chosen.title()
	if err != nil {
		return nil, err
	}
	events = append(events, s.command(chosen.line, "setparams "+title))
	for _, c := range chosen.body {
		events = append(events, s.command(c.line, c.text()))
		more, err := s.load(c)
		if err != nil {
			return nil, err
		}
		events = append(events, more...)
	}
	if s.kernel.Data == nil {
		return nil, varies(chosen.line, "the entry starts no kernel")
	}
	return events, nil
}

func (s *session) command(line int, text string) expected.Event {
	return expected.Of(pcrCommand, "grub", "grub's command "+shown(text), fmt.Sprintf("%s, line %d", s.f.Config.Name, line), []byte(text))
}

func (s *session) file(what string, f File) expected.Event {
	return expected.Of(pcrFile, "file", what+", read by grub", f.Name, f.Data)
}

// load adds what a command of the entry reads.
func (s *session) load(c command) (events []expected.Event, err error) {
	name := strings.TrimSuffix(c.words[0], "efi")
	switch {
	case name == "linux" && len(c.words) > 1 && s.kernel.Data == nil:
		if s.kernel, err = s.read(c.words[1]); err != nil {
			return nil, err
		}
		s.line = loaderLine(c.words[1:])
		return []expected.Event{s.file("kernel", s.kernel),
			expected.Of(pcrCommand, "line", "kernel_cmdline", fmt.Sprintf("%s, line %d", s.f.Config.Name, c.line), []byte(s.line))}, nil
	case name == "initrd" && len(c.words) == 2 && s.kernel.Data != nil && s.initrd.Data == nil:
		if s.initrd, err = s.read(c.words[1]); err != nil {
			return nil, err
		}
		return []expected.Event{s.file("initrd", s.initrd)}, nil
	case harmless(c.words) || c.words[0] == "boot" && len(c.words) == 1:
		return nil, nil
	}
	return nil, varies(c.line, "%s may read files, or lead elsewhere", c.words[0])
}

func (s *session) read(path string) (File, error) {
	if !strings.HasPrefix(path, "/") {
		return File{}, fmt.Errorf("%s: the path must begin with / : files of other disks are not known", path)
	}
	data, err := s.f.Read(path)
	return File{path, data}, err
}

// varying adds what is certain where the configuration is not literal: the kernel's file
// and its command line, the initrd's file.
func (s *session) varying() (err error) {
	if s.f.Kernel == "" || s.f.Line == "" {
		return fmt.Errorf("%s is not literal: its kernel, initrd and command line must be given", s.f.Config.Name)
	}
	if s.kernel, err = s.read(s.f.Kernel); err != nil {
		return err
	}
	s.initrd, s.line = File{}, s.f.Kernel+" "+s.f.Line
	s.b.Add(expected.OpenMany(pcrCommand, "grub"), s.file("kernel", s.kernel),
		expected.Of(pcrCommand, "line", "kernel_cmdline", "the line that was given", []byte(s.line)))
	if s.f.Initrd == "" {
		return nil
	}
	if s.initrd, err = s.read(s.f.Initrd); err != nil {
		return err
	}
	s.b.Add(expected.OpenMany(pcrCommand, "grub"), s.file("initrd", s.initrd))
	return nil
}

// quiet are commands that read no file and lead nowhere else.
var quiet = []string{"set", "export", "unset", "insmod", "echo", "true", "terminal_input", "terminal_output", "serial", "search", "clear", "sleep"}

// harmless reports whether a command reads no file that is measured, and changes nothing
// that another event depends on.
func harmless(words []string) bool {
	if !slices.Contains(quiet, words[0]) {
		return false
	}
	for _, w := range words[1:] {
		name, _, _ := strings.Cut(w, "=")
		if slices.Contains([]string{"prefix", "--set", "--file", "-f", "pager", "check_signatures", "cmdpath", "lockdown"}, name) && w != "--set=root" {
			return false
		}
	}
	return true
}

// shown keeps a command short.
func shown(text string) string {
	text, _, more := strings.Cut(text, "\n")
	if len(text) > 60 {
		text, more = strings.ToValidUTF8(text[:60], ""), true
	}
	if more {
		text += "…"
	}
	return fmt.Sprintf("%q", text)
}
