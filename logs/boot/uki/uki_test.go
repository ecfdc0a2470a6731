package uki

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/boot/expected"
)

type section = boottest.Section

func stubOf(version int) section {
	return section{Name: ".sdmagic", Data: fmt.Appendf(nil, "#### LoaderInfo: systemd-stub %d.1-2 ####", version)}
}

// image is a small unified kernel image, with more sections.
func image(version int, more ...section) File {
	return File{"app.efi", boottest.Program(append([]section{
		stubOf(version), {Name: ".linux", Data: boottest.Kernel("k")}, {Name: ".osrel", Data: []byte("ID=x\n")},
		{Name: ".cmdline", Data: []byte("  ro\tconsole=ttyS0 \n\x00")}, {Name: ".initrd", Data: []byte("initrd")}}, more...)...)}
}

func extra(name, line string, more ...section) File {
	return File{name, boottest.Program(append([]section{{Name: ".cmdline", Data: []byte(line)}}, more...)...)}
}

func booted(t *testing.T, f Files) expected.Boot {
	t.Helper()
	f.Separator = 1
	var b expected.Boot
	if err := Boot(&b, f); err != nil {
		t.Fatal(err)
	}
	return b
}

// kinds are the events of a register, in short.
func kinds(events []expected.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, e.Kind)
	}
	return strings.Join(all, " ")
}

func TestBoot(t *testing.T) {
	b := booted(t, Files{Image: image(257)})
	if got := kinds(b.Registers[1]); got != "action separator uki kernel action action" {
		t.Errorf("RTMR1: %s", got)
	}
	if got := kinds(b.Registers[2]); got != strings.Repeat("section-name section ", 4)+"line initrd" {
		t.Errorf("RTMR2: %s", got)
	}
	if b.Line != "ro console=ttyS0" {
		t.Errorf("line %q", b.Line)
	}
	for i, want := range [][]byte{[]byte(".linux\x00"), boottest.Kernel("k"), []byte(".osrel\x00"), []byte("ID=x\n"), []byte(".cmdline\x00"), []byte("  ro\tconsole=ttyS0 \n\x00"), []byte(".initrd\x00"), []byte("initrd"), expected.Wide("ro console=ttyS0", true)} {
		if b.Registers[2][i].Choices[0].Digest != sha512.Sum384(want) {
			t.Errorf("event %d is not %q", i, want)
		}
	}
	initrd := append([]byte("initrd\x00\x00"), place{".extra", 0o555, 0o444}.pack([]File{{"os-release", []byte("ID=x\n")}})...)
	if b.Registers[2][9].Choices[0].Digest != sha512.Sum384(initrd) {
		t.Error("the initrd")
	}
}

// Everything that lies beside the image is measured, in the stub's order.
func TestBeside(t *testing.T) {
	f := Files{
		Image:       image(262, section{Name: ".uname", Data: []byte("6.1")}),
		Options:     "debug console=tty1",
		Extra:       []File{extra("b.addon.efi", "b"), {"x.cred", []byte("c")}, {"s.raw", []byte("s")}, {"c.confext.raw", []byte("e")}, {".hidden.cred", []byte("h")}, {"README", nil}},
		Addons:      []File{extra("z.addon.efi", "z", section{Name: ".initrd", Data: []byte("more")}), extra("other.addon.efi", "not mine", section{Name: ".uname", Data: []byte("5.9")})},
		Credentials: []File{{"g.cred", []byte("g")}},
		Failed:      1,
	}
	gpt := expected.Open(5, "gpt")
	f.GPT = &gpt
	b := booted(t, f)
	if got := kinds(b.Registers[1]); got != "action separator action action gpt uki addon addon addon action action" {
		t.Errorf("RTMR1: %s", got)
	}
	if got := kinds(b.Registers[2]); got != strings.Repeat("section-name section ", 5)+"options addon-line sidecar sidecar sidecar sidecar addon-part line initrd" {
		t.Errorf("RTMR2: %s", got)
	}
	if b.Line != "debug console=tty1 z b" {
		t.Errorf("line %q", b.Line)
	}
	if b.Registers[2][11].Choices[0].Digest != sha512.Sum384(expected.Wide("z b", true)) {
		t.Error("the add-ons' line")
	}
	old := f
	old.Retried = true
	old.Image = image(257, section{Name: ".uname", Data: []byte("6.1")})
	if got := kinds(booted(t, old).Registers[1]); got != "action separator action action gpt uki addon addon addon kernel action action action action" {
		t.Errorf("an older stub's RTMR1: %s", got)
	}
	if b := booted(t, old); strings.Contains(kinds(b.Registers[2]), "addon-part") || len(b.Notes) != 1 {
		t.Errorf("an older stub: %s, %q", kinds(b.Registers[2]), b.Notes)
	}
}

// Archives are measured first, then add-ons' microcode, the last one first, and their
// initrds: as the stub puts them together.
func TestOrderOfParts(t *testing.T) {
	ucode := func(name, text string) File {
		return extra(name, "x", section{Name: ".ucode", Data: []byte(text)}, section{Name: ".initrd", Data: []byte("i" + text)})
	}
	b := booted(t, Files{Image: image(262, section{Name: ".ucode", Data: []byte("own!")}), Extra: []File{ucode("a.addon.efi", "aaaa"), ucode("b.addon.efi", "bbbb"), {"c.cred", []byte("c")}}})
	events := b.Registers[2]
	cred := place{".extra/credentials", 0o500, 0o400}.pack([]File{{"c.cred", []byte("c")}})
	release := place{".extra", 0o555, 0o444}.pack([]File{{"os-release", []byte("ID=x\n")}})
	initrd := slices.Concat([]byte("bbbbaaaaown!initrd\x00\x00"), cred, release, []byte("iaaaa\x00\x00\x00ibbbb\x00\x00\x00"))
	want := [][]byte{expected.Wide("x x", true), cred, []byte("bbbb"), []byte("aaaa"), []byte("iaaaa"), []byte("ibbbb"), expected.Wide(b.Line, true), initrd}
	for i, data := range want {
		if e := events[len(events)-len(want)+i]; e.Choices[0].Digest != sha512.Sum384(data) {
			t.Errorf("event %d, %s, is not of %.20q", i, e.Kind, data)
		}
	}
}

// A newer stub adds a console that the host chooses.
func TestConsoleByHost(t *testing.T) {
	for version, want := range map[int]bool{257: true, 262: false} {
		f := Files{Image: image(version), Options: "ro"}
		b := booted(t, f)
		events := b.Registers[2]
		if known := events[len(events)-2].IsKnown(); known != want || (b.Line == "ro") != want {
			t.Errorf("version %d: known %v, line %q", version, known, b.Line)
		}
	}
}

// The archive is one that cpio itself reads.
func TestArchive(t *testing.T) {
	packed := place{".extra/credentials", 0o500, 0o400}.pack([]File{{"a.cred", []byte("one")}, {"b.cred", []byte("four")}})
	if len(packed)%4 != 0 {
		t.Errorf("%d bytes", len(packed))
	}
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("left out: no cpio on this machine")
	}
	list := exec.Command(cpio, "-itv", "--quiet")
	list.Stdin = bytes.NewReader(packed)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		names = append(names, words[0]+" "+words[len(words)-1])
	}
	if want := []string{"dr-xr-xr-x .extra", "dr-x------ .extra/credentials", "-r-------- .extra/credentials/a.cred", "-r-------- .extra/credentials/b.cred"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

func TestRefused(t *testing.T) {
	with := func(f func(*Files)) Files {
		all := Files{Image: image(257)}
		f(&all)
		return all
	}
	program := func(s ...section) File { return File{"x", boottest.Program(s...)} }
	for want, f := range map[string]Files{
		"no section .linux":         {Image: program(stubOf(257))},
		"name a version":            {Image: program(section{Name: ".linux", Data: []byte("x")})},
		"at least 257":              {Image: image(252)},
		".profile is there 1 times": {Image: image(257, section{Name: ".profile", Data: []byte("x")})},
		".initrd is there 2 times":  {Image: image(257, section{Name: ".initrd", Data: []byte("x")})},
		"must be ASCII":             with(func(f *Files) { f.Extra = []File{extra("a.addon.efi", "\xc3\xa4")} }),
		"image with a kernel": with(func(f *Files) {
			f.Extra = []File{extra("a.addon.efi", "x", section{Name: ".linux", Data: []byte("x")})}
		}),
		"device trees":               with(func(f *Files) { f.Extra = []File{extra("a.addon.efi", "x", section{Name: ".dtb", Data: []byte("x")})} }),
		`must begin with "MZ"`:       with(func(f *Files) { f.Extra = []File{{"a.addon.efi", []byte("x")}} }),
		"at most 256":                with(func(f *Files) { f.Credentials = make([]File, 257) }),
		"no command line":            {Image: program(stubOf(257), section{Name: ".linux", Data: boottest.Kernel("k")})},
		".linux: not an EFI program": {Image: program(stubOf(257), section{Name: ".linux", Data: []byte("x")}, section{Name: ".cmdline", Data: []byte("x")})},
	} {
		if err := Boot(&expected.Boot{}, f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Each byte that is booted changes a register.
func TestEachCounts(t *testing.T) {
	base := func() Files {
		return Files{Image: image(262), Extra: []File{extra("b.addon.efi", "b"), {"x.cred", []byte("c")}, {"s.raw", []byte("s")}}}
	}
	value := func(f Files) (v [2][48]byte) {
		b := booted(t, f)
		v[0], _ = expected.Value(b.Registers[1])
		v[1], _ = expected.Value(b.Registers[2])
		return v
	}
	first := value(base())
	for name, change := range map[string]func(*Files){
		"kernel":          func(f *Files) { f.Image.Data = bytes.Replace(f.Image.Data, []byte("HdrS"), []byte("HdrT"), 1) },
		"line":            func(f *Files) { f.Image.Data = bytes.Replace(f.Image.Data, []byte("ttyS0"), []byte("ttyS1"), 1) },
		"options":         func(f *Files) { f.Options = "console=x" },
		"add-on":          func(f *Files) { f.Extra[0] = extra("b.addon.efi", "c") },
		"credential":      func(f *Files) { f.Extra[1].Data = []byte("d") },
		"its name":        func(f *Files) { f.Extra[1].Name = "y.cred" },
		"extension":       func(f *Files) { f.Extra[2].Data = []byte("t") },
		"another, global": func(f *Files) { f.Extensions = []File{{"t.raw", nil}} },
	} {
		f := base()
		change(&f)
		if value(f) == first {
			t.Errorf("another %s changes nothing", name)
		}
	}
}

func FuzzBoot(f *testing.F) {
	f.Add(image(257).Data, extra("a.addon.efi", "x").Data, "a.cred", "ro")
	f.Fuzz(func(t *testing.T, file, beside []byte, name, options string) {
		var b expected.Boot
		if Boot(&b, Files{Image: File{"x", file}, Extra: []File{{"a.addon.efi", beside}, {name, beside}}, Options: options}) == nil {
			io.WriteString(io.Discard, b.Line)
		}
	})
}
