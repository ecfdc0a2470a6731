package uki

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs/boot/authenticode"
)

// maxFiles bounds the files of one folder.
const maxFiles = 256

// addon is an add-on that the stub loads. It counts if it is for this kernel.
type addon struct {
	name          string
	program       *authenticode.Program
	counts        bool
	line          string
	ucode, initrd []byte
}

// readAddons reads the add-ons: those for all images first, and in the order of names.
func (s *stub) readAddons() error {
	for _, folder := range [][]File{s.f.Addons, s.f.Extra} {
		files, err := chosen(folder, ".addon.efi", "")
		if err != nil {
			return err
		}
		for _, f := range files {
			a, err := s.readAddon(f)
			if err != nil {
				return fmt.Errorf("add-on %s: %w", f.Name, err)
			}
			s.addons = append(s.addons, a)
		}
	}
	return nil
}

func (s *stub) readAddon(f File) (a addon, err error) {
	a.name = f.Name
	if a.program, err = authenticode.Parse(f.Data); err != nil {
		return a, err
	}
	if a.program.Has(".linux") {
		return a, errors.New("it is an image with a kernel: the stub ignores it")
	}
	if a.program.Has(".dtb") || a.program.Has(".dtbauto") {
		return a, errors.New("device trees are not known here")
	}
	uname, err := a.program.Section(".uname")
	if err != nil {
		return a, err
	}
	text, err := a.program.Section(".cmdline")
	if err != nil {
		return a, err
	}
	if a.line, err = plain(text); err != nil {
		return a, err
	}
	a.line = mangle(a.line)
	if a.ucode, err = a.program.Section(".ucode"); err != nil {
		return a, err
	}
	if a.initrd, err = a.program.Section(".initrd"); err != nil {
		return a, err
	}
	own, err := s.program.Section(".uname")
	a.counts = own == nil || uname == nil || sameUntil(own, uname)
	return a, err
}

// sameUntil compares as the stub does: as many bytes as the add-on has, up to a NUL.
func sameUntil(own, uname []byte) bool {
	own = own[:min(len(own), len(uname))]
	a, _, _ := bytes.Cut(own, []byte{0})
	b, _, _ := bytes.Cut(uname, []byte{0})
	return bytes.Equal(a, b)
}

// chosen are the files of a folder that the stub takes for a suffix, in its order.
func chosen(folder []File, suffix, without string) (list []File, err error) {
	if len(folder) > maxFiles {
		return nil, fmt.Errorf("a folder beside the image has %d files: it must have at most %d", len(folder), maxFiles)
	}
	ends := func(name, suffix string) bool {
		return suffix != "" && strings.HasSuffix(strings.ToLower(name), suffix)
	}
	for _, f := range folder {
		ascii := !strings.ContainsFunc(f.Name, func(r rune) bool { return r >= 0x80 })
		if strings.HasPrefix(f.Name, ".") || !ends(f.Name, suffix) || ends(f.Name, without) || !ascii || len(f.Name) > 255 {
			continue
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}
