package grub

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot/authenticode"
	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/boot/expected"
)

func shimOf(certificate, revoked string) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint32(b, uint32(len(certificate)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(revoked)))
	binary.LittleEndian.PutUint32(b[8:], 16)
	binary.LittleEndian.PutUint32(b[12:], uint32(16+len(certificate)))
	return boottest.Program(boottest.Section{Name: ".vendor_cert", Data: append(append(b, certificate...), revoked...)})
}

func grubOf(version string) []byte {
	return boottest.Program(boottest.Section{Name: ".sbat", Data: fmt.Appendf(nil, "sbat,1,SBAT Version,sbat,1,x\ngrub,5,Free Software Foundation,grub,%s,x\ngrub.peimage,2,Canonical,grub2,x,x\n", version)})
}

const literal = `# a comment
set timeout=0
set default=1
menuentry "first" { linux /other
}
menuentry 'The second' --class x --id y {
	linux /vmlinuz root=/dev/vda "a b"  quiet
	initrd /initrd.img
}
`

func files(config string) Files {
	tree := map[string][]byte{"/vmlinuz": boottest.Kernel("k"), "/initrd.img": []byte("initrd")}
	return Files{
		Shim: File{"shim", shimOf("0certificate", "")}, Grub: File{"grub", grubOf("2.12")}, Config: File{"grub.cfg", []byte(config)}, Separator: 1,
		Read: func(path string) ([]byte, error) {
			if b, ok := tree[path]; ok {
				return b, nil
			}
			return nil, fmt.Errorf("%s is not there", path)
		},
	}
}

func TestLiteral(t *testing.T) {
	var b expected.Boot
	if err := Boot(&b, files(literal)); err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	for _, text := range []string{
		literal, literal, "set timeout=0", "set default=1", "menuentry first { linux /other\n}",
		"menuentry The second --class x --id y {\n\tlinux /vmlinuz root=/dev/vda \"a b\"  quiet\n\tinitrd /initrd.img\n}",
		"setparams The second", "linux /vmlinuz root=/dev/vda a b quiet",
	} {
		want = append(want, []byte(text))
	}
	const line = `/vmlinuz root=/dev/vda "a b" quiet`
	want = append(want, boottest.Kernel("k"), []byte(line), []byte("initrd /initrd.img"), []byte("initrd"), expected.Wide("BOOT_IMAGE="+line, false), []byte("initrd"))
	got := b.Registers[2][3:]
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Choices[0].Digest != sha512.Sum384(want[i]) {
			t.Errorf("event %d is not %q", i, want[i])
		}
	}
	if b.Line != "BOOT_IMAGE="+line || len(b.Registers[1]) != 6 || !expected.Complete(b.Registers[1]) || len(b.Notes) > 0 {
		t.Errorf("%q, %+v, %q", b.Line, b.Registers[1], b.Notes)
	}
}

// Later versions have firmware load the kernel, and end the line with a NUL.
func TestLaterGrub(t *testing.T) {
	f := files(literal)
	f.Grub.Data, f.Retried = grubOf("2.14"), true
	var b expected.Boot
	if err := Boot(&b, f); err != nil {
		t.Fatal(err)
	}
	p, err := authenticode.Parse(boottest.Kernel("k"))
	if err != nil || len(b.Registers[1]) != 9 || b.Registers[1][4].Choices[0].Digest != p.Digest() {
		t.Errorf("%+v, %v", b.Registers[1], err)
	}
	events := b.Registers[2]
	if events[len(events)-2].Choices[0].Digest != sha512.Sum384(expected.Wide(b.Line, true)) {
		t.Error("the line has no NUL")
	}
}

// What is not literal is said, and kernel, line and initrd are known all the same.
func TestVarying(t *testing.T) {
	for _, config := range []string{
		"set x=$y\n" + literal, "if true; then\n" + literal + "fi\n", "source /x\n" + literal, "set prefix=/x\n" + literal,
		"function f {\n}\n" + literal, strings.Replace(literal, "default=1", "default=saved", 1), "set timeout=0\n", strings.Replace(literal, "\tinitrd", "\tmulti\\\n\tinitrd", 1),
		strings.Replace(literal, "initrd /initrd.img", "initrd /a /b", 1), "load_env\n" + literal, "search --set=prefix --label x\n" + literal,
		"submenu x {\n}\n" + literal, "menuentry x {\n", "}\n", "echo 'x",
	} {
		f := files(config)
		if err := Boot(&expected.Boot{}, f); err == nil || !strings.Contains(err.Error(), "must be given") {
			t.Errorf("%q: %v", config, err)
		}
		f.Kernel, f.Initrd, f.Line = "/vmlinuz", "/initrd.img", "ro"
		var b expected.Boot
		if err := Boot(&b, f); err != nil {
			t.Errorf("%q: %v", config, err)
			continue
		}
		var kinds []string
		for _, e := range b.Registers[2] {
			kinds = append(kinds, e.Kind)
		}
		if want := []string{"mok", "mok", "mok", "grub", "file", "line", "grub", "file", "line", "initrd"}; !slices.Equal(kinds, want) || b.Line != "BOOT_IMAGE=/vmlinuz ro" || len(b.Notes) != 1 {
			t.Errorf("%q: %q, %q, %q", config, kinds, b.Line, b.Notes)
		}
	}
}

func TestShim(t *testing.T) {
	for _, c := range []struct {
		certificate, revoked string
		list, lists          []byte
	}{
		{"", "", signatureList(sha256GUID, make([]byte, 32)), signatureList(sha256GUID, make([]byte, 32))},
		{"0x", "dbx", signatureList(x509GUID, []byte("0x")), []byte("dbx")},
		{"a list", "", []byte("a list"), signatureList(sha256GUID, make([]byte, 32))},
	} {
		p, err := authenticode.Parse(shimOf(c.certificate, c.revoked))
		if err != nil {
			t.Fatal(err)
		}
		var b expected.Boot
		if err := shimLists(&b, p, "shim"); err != nil {
			t.Fatal(err)
		}
		if b.Registers[2][0].Choices[0].Digest != sha512.Sum384(c.list) || b.Registers[2][1].Choices[0].Digest != sha512.Sum384(c.lists) {
			t.Errorf("%q, %q", c.certificate, c.revoked)
		}
	}
	// This digest is in five real logs.
	if d := sha512.Sum384(signatureList(sha256GUID, make([]byte, 32))); fmt.Sprintf("%x", d[:6]) != "80ee2571334a" {
		t.Errorf("an empty list is %x", d)
	}
}

func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*Files){
		"version 2.06: 2.12": func(f *Files) { f.Grub.Data = grubOf("2.06") },
		"2.12 and 2.14 of Debian": func(f *Files) {
			f.Grub.Data = boottest.Program(boottest.Section{Name: ".sbat", Data: []byte("grub,5,x,grub,2.12,x\n")})
		},
		"names no version":        func(f *Files) { f.Grub.Data = boottest.Program() },
		"no section .vendor_cert": func(f *Files) { f.Shim.Data = boottest.Program() },
		"is not there":            func(f *Files) { f.Config.Data = []byte(strings.Replace(literal, "/vmlinuz", "/vm", 1)) },
		"must begin with /":       func(f *Files) { f.Config.Data = []byte(strings.Replace(literal, "/vmlinuz", "(hd1)/vmlinuz", 1)) },
		"must have at most":       func(f *Files) { f.Config.Data = []byte(strings.Repeat("echo x\n", 5000) + literal) },
	} {
		f := files(literal)
		change(&f)
		if err := Boot(&expected.Boot{}, f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Each file and each command changes a register.
func TestEachCounts(t *testing.T) {
	value := func(f Files) (v [2][48]byte) {
		var b expected.Boot
		if err := Boot(&b, f); err != nil {
			t.Fatal(err)
		}
		v[0], _ = expected.Value(b.Registers[1])
		v[1], _ = expected.Value(b.Registers[2])
		return v
	}
	first := value(files(literal))
	for name, f := range map[string]Files{
		"timeout": files(strings.Replace(literal, "timeout=0", "timeout=1", 1)),
		"comment": files(strings.Replace(literal, "a comment", "A comment", 1)),
		"line":    files(strings.Replace(literal, "quiet", "Quiet", 1)),
		"entry":   files(strings.Replace(literal, "/other", "/Other", 1)),
	} {
		if value(f) == first {
			t.Errorf("another %s changes nothing", name)
		}
	}
	other := files(literal)
	other.Shim.Data = shimOf("0another", "")
	if value(other) == first {
		t.Error("another shim changes nothing")
	}
}

func FuzzScript(f *testing.F) {
	f.Add(literal)
	f.Add("a 'b' \"c\" ; d # e\nmenuentry x {\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := script(text)
		if err != nil {
			return
		}
		for _, c := range list {
			if len(c.words) == 0 {
				t.Fatalf("%q has a command without words", text)
			}
			c.text()
		}
		if c, err := entry(list); err == nil {
			if _, err := c.title(); err != nil && !errors.Is(err, errVaries) {
				t.Error(err)
			}
		}
	})
}

func FuzzBoot(f *testing.F) {
	f.Add(shimOf("0x", "y"), grubOf("2.12"))
	f.Fuzz(func(t *testing.T, shim, program []byte) {
		all := files(literal)
		all.Shim.Data, all.Grub.Data = shim, program
		Boot(&expected.Boot{}, all)
	})
}
