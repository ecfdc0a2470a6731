package uki

import (
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs/boot/expected"
)

// archive is a cpio as the stub writes it (src/boot/cpio.c): the form newc, inodes from 1,
// no times, so that the same files have the same bytes.
type archive struct {
	b     []byte
	inode int
}

func (a *archive) pad() {
	for len(a.b)%4 != 0 {
		a.b = append(a.b, 0)
	}
}

func (a *archive) entry(mode int, name string, data []byte) {
	a.inode++
	a.b = fmt.Appendf(a.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.b = append(a.b, data...)
	a.pad()
}

const (
	directory = 0o040000
	regular   = 0o100000
)

// place is where files of a kind go in the initrd.
type place struct {
	dir            string
	dirMode, files int
}

// pack writes an archive of files: the directories above, the directory, the files.
func (p place) pack(files []File) []byte {
	a := &archive{}
	for i, c := range p.dir {
		if c == '/' {
			a.entry(directory|0o555, p.dir[:i], nil)
		}
	}
	a.entry(directory|p.dirMode, p.dir, nil)
	for _, f := range files {
		a.entry(regular|p.files, p.dir+"/"+f.Name, f.Data)
	}
	// The trailer has capital digits in one number.
	a.b = append(a.b, "070701"+strings.Repeat("00000000", 4)+"00000001"+strings.Repeat("00000000", 6)+"0000000B00000000TRAILER!!!\x00\x00\x00\x00"...)
	return a.b
}

// sidecar is a folder whose files the stub packs, measures and hands to the kernel.
type sidecar struct {
	what            string
	folder          []File
	suffix, without string
	place
	pcr int
}

func (s *stub) sidecars() []sidecar {
	const confext = ".confext.raw"
	return []sidecar{
		{"credentials", s.f.Extra, ".cred", "", place{".extra/credentials", 0o500, 0o400}, pcrConfig},
		{"credentials for all images", s.f.Credentials, ".cred", "", place{".extra/global_credentials", 0o500, 0o400}, pcrConfig},
		{"system extensions", s.f.Extra, ".raw", confext, place{".extra/sysext", 0o555, 0o444}, pcrSysext},
		{"system extensions for all images", s.f.Extensions, ".raw", confext, place{".extra/global_sysext", 0o555, 0o444}, pcrSysext},
		{"configuration extensions", s.f.Extra, confext, "", place{".extra/confext", 0o555, 0o444}, pcrConfig},
		{"configuration extensions for all images", s.f.Extensions, confext, "", place{".extra/global_confext", 0o555, 0o444}, pcrConfig},
	}
}

// wrapped are sections that the stub puts into files of the initrd, unmeasured by itself.
var wrapped = [][2]string{{".pcrsig", "tpm2-pcr-signature.json"}, {".pcrpkey", "tpm2-pcr-public-key.pem"}, {".osrel", "os-release"}}

// initrds adds the archives that the stub makes, and then the kernel's events: the command
// line, and the initrd that all of them together are.
func (s *stub) initrds() error {
	packs, err := s.packs()
	if err != nil {
		return err
	}
	var parts [][]byte
	for i := len(s.addons) - 1; i >= 0; i-- { // the kernel takes the first microcode
		parts = s.addonPart(parts, i, ".ucode", s.addons[i].ucode)
	}
	if ucode := s.section(".ucode"); len(ucode) > 0 {
		parts = append(parts, ucode)
	}
	if initrd := s.section(".initrd"); len(initrd) > 0 {
		parts = append(parts, initrd)
	}
	parts = append(parts, packs...)
	for _, w := range wrapped {
		data, err := s.program.Section(w[0])
		if err != nil {
			return err
		}
		if len(data) > 0 {
			parts = append(parts, place{".extra", 0o555, 0o444}.pack([]File{{w[1], data}}))
		}
	}
	for i := range s.addons {
		parts = s.addonPart(parts, i, ".initrd", s.addons[i].initrd)
	}
	line := expected.LoadOptions(s.b.Line, s.f.Image.Name+": .cmdline, options and add-ons", true)
	if s.byHost() {
		s.b.Others = append(s.b.Others, line.Choices...)
		s.b.Notes = append(s.b.Notes, "command line: the stub adds console= by the host's devices where the line has none; put one on it")
		line, s.b.Line = expected.Open(9, "line"), ""
	}
	s.b.Add(line)
	if len(parts) > 0 {
		s.b.Add(expected.Initrd("what the stub puts together", join(parts)))
	}
	return nil
}

// packs are the archives of what lies beside the image. The stub measures them before it
// looks at add-ons.
func (s *stub) packs() (packs [][]byte, err error) {
	for _, c := range s.sidecars() {
		files, err := chosen(c.folder, c.suffix, c.without)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			continue
		}
		packed := c.pack(files)
		packs = append(packs, packed)
		s.b.Add(expected.Of(c.pcr, "sidecar", c.what, fmt.Sprintf("%d files beside the image", len(files)), packed))
	}
	return packs, nil
}

// addonPart takes a part of an add-on in, and its event: before version 261 the stub
// measured it to a TPM alone.
func (s *stub) addonPart(parts [][]byte, i int, section string, data []byte) [][]byte {
	a := s.addons[i]
	if !a.counts || len(data) == 0 {
		return parts
	}
	if s.version >= addons {
		s.b.Add(expected.Of(pcrConfig, "addon-part", "section "+section+" of an add-on", a.name, data))
	} else {
		s.b.Notes = append(s.b.Notes, fmt.Sprintf("%s of %s: systemd-stub %d measures it to no register; the initrd's digest covers it", section, a.name, s.version))
	}
	return append(parts, data)
}

// join puts initrds together: each begins at a multiple of four; one alone is as it is.
func join(parts [][]byte) []byte {
	if len(parts) == 1 {
		return parts[0]
	}
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}
