package boot

import (
	"bytes"
	"crypto/sha512"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/policy"
	bootlog "github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/boot/boottest"
	"github.com/cima-project/cima/logs/boot/expected"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// try runs the verb in a directory of its own, and returns its exit code.
func try(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	c := Command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errors)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(command.Usage)
	code = command.Report(&errors, c.Execute())
	return code, out.String(), errors.String()
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// built are the files of a boot.
type built struct{ dir, firmware, kernel, initrd, uki, acpi, esp string }

func build(t *testing.T) built {
	dir := t.TempDir()
	b := built{dir: dir, acpi: filepath.Join(dir, "acpi"), esp: filepath.Join(dir, "esp")}
	b.firmware = write(t, dir, "OVMF.fd", boottest.Firmware(boottest.Parts()))
	b.kernel = write(t, dir, "vmlinuz", boottest.Kernel("k"))
	b.initrd = write(t, dir, "initrd", []byte("initrd"))
	b.uki = write(t, dir, "app.efi", boottest.Program(boottest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-stub 257.1 ####")},
		boottest.Section{Name: ".linux", Data: boottest.Kernel("k")}, boottest.Section{Name: ".cmdline", Data: []byte("ro roothash=" + strings.Repeat("6f", 32))}))
	write(t, dir, "app.efi.extra.d/x.cred", []byte("c"))
	for _, name := range []string{"table-loader", "rsdp", "tables"} {
		write(t, dir, "acpi/"+name, []byte(name))
	}
	write(t, dir, "esp/loader/credentials/g.cred", []byte("g"))
	write(t, dir, "esp/EFI/BOOT/BOOTX64.EFI", boottest.Program(boottest.Section{Name: ".vendor_cert", Data: make([]byte, 16)}))
	write(t, dir, "esp/EFI/BOOT/grubx64.efi", boottest.Program(boottest.Section{Name: ".sbat", Data: []byte("grub,5,Free Software Foundation,grub,2.12,x\ngrub.peimage,2,x\n")}))
	write(t, dir, "esp/EFI/debian/grub.cfg", []byte("menuentry x {\nlinux /vmlinuz ro\n}\n"))
	write(t, dir, "esp/vmlinuz", boottest.Kernel("k"))
	return b
}

func (b built) firmwareFlags() []string {
	return []string{"--firmware", b.firmware, "--memory", "2G", "--secure-boot", "off", "--acpi", b.acpi}
}

// log is the boot log of a TD that boots as predicted. What stays open is an event of its
// kind's name.
func logOf(t *testing.T, args ...string) (*bootlog.Log, []byte) {
	t.Helper()
	code, stdout, stderr := try(t, append(args, "--json")...)
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
		t.Fatalf("%d, %s, %v", code, stderr, err)
	}
	var events []bootlog.Event
	for _, e := range r.Events {
		var mr uint32
		for i, name := range []string{"rtmr0", "rtmr1", "rtmr2"} {
			if e.Register == name {
				mr = uint32(i) + 1
			}
		}
		digest := sha512.Sum384([]byte(e.Kind))
		if e.Digest != "" {
			var d hw.Digest
			if err := d.UnmarshalText([]byte(e.Digest)); err != nil {
				t.Fatal(err)
			}
			digest = d
		}
		events = append(events, bootlog.Event{MR: mr, Type: bootlog.EvIPL, Digest: digest, Data: []byte(e.What)})
	}
	raw := bootlog.Encode(events)
	log, err := bootlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return log, raw
}

// judged holds the boot of a log against a policy that was written.
func judged(t *testing.T, text string, log *bootlog.Log, mrtd [48]byte) policy.Boots {
	t.Helper()
	p, err := policy.Parse("policy", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	registers, err := log.Replay()
	if err != nil {
		t.Fatal(err)
	}
	boots, err := p.JudgeBoot(policy.Booted{Log: log, MRTD: mrtd, RTMR: [3]hw.Digest(registers[:3])}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return boots
}

// A policy that is computed before the boot knows it; a byte of any file makes another one.
func TestPolicyKnowsTheBoot(t *testing.T) {
	files := build(t)
	for name, way := range map[string][]string{
		"direct": {"--kernel", files.kernel, "--initrd", files.initrd, "--line", "ro"},
		"uki":    {"--uki", files.uki, "--disk", "none", "--esp", files.esp},
		"grub":   {"--grub", files.esp, "--disk", "none"},
	} {
		args := append(files.firmwareFlags(), way...)
		code, text, stderr := try(t, append(args, "--policy", "--name", "a b")...)
		if code != 0 || !strings.Contains(stderr, "note: stays open: boot options") {
			t.Fatalf("%s: %d, %s", name, code, stderr)
		}
		log, raw := logOf(t, args...)
		mrtd := mrtdOf(t, files)
		if boots := judged(t, text, log, mrtd); len(boots.Known) != 1 || boots.Known[0].Name != "a b" {
			t.Errorf("%s: %s\n%s", name, boots.Differences(), text)
		}
		ccel := write(t, t.TempDir(), "ccel", raw)
		if code, stdout, _ := try(t, append(args, "--check", ccel)...); code != command.Unknown || !strings.Contains(stdout, "predicted:") || strings.Contains(stdout, "differs") {
			t.Errorf("%s: check ends with %d: %s", name, code, stdout)
		}
		if code, _, _ := try(t, append(way, "--check", ccel)...); code != 0 {
			t.Errorf("%s: without firmware, check ends with %d", name, code)
		}
		for _, file := range []string{files.kernel, files.initrd, files.uki, files.uki + ".extra.d/x.cred", files.esp + "/loader/credentials/g.cred", files.esp + "/vmlinuz", files.esp + "/EFI/debian/grub.cfg"} {
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := slices.Clone(was)
			changed[min(10, len(changed)-1)] ^= 2
			write(t, "/", file, changed)
			other, _ := logOf(t, args...)
			mine := strings.Contains(strings.Join(way, " "), file) || name == "uki" && strings.Contains(file, ".cred") || name == "grub" && strings.HasPrefix(file, files.esp) && !strings.Contains(file, ".cred")
			if boots := judged(t, text, other, mrtd); (len(boots.Known) == 0) != mine {
				t.Errorf("%s: another %s: known %v", name, file, boots.Known)
			}
			if code, stdout, _ := try(t, append(args, "--check", ccel)...); (code == command.Disagrees) != mine || mine && !strings.Contains(stdout, "look:") {
				t.Errorf("%s: another %s: check ends with %d: %s", name, file, code, stdout)
			}
			write(t, "/", file, was)
		}
	}
}

func mrtdOf(t *testing.T, b built) (d hw.Digest) {
	t.Helper()
	_, stdout, _ := try(t, "--firmware", b.firmware, "--json")
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || len(r.MRTD) != 2 {
		t.Fatalf("%s, %v", stdout, err)
	}
	if err := d.UnmarshalText([]byte(r.MRTD[0])); err != nil {
		t.Fatal(err)
	}
	return d
}

// What covers the root file system is what the line says, and what somebody says must agree.
func TestRoot(t *testing.T) {
	files := build(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--uki", files.uki}, `root = "verity"`},
		{[]string{"--kernel", files.kernel, "--line", "ro"}, `root = "not covered"`},
		{[]string{"--kernel", files.kernel, "--line", "ro", "--root", "initrd", "--host-input", "none"}, "root = \"initrd\"\n# What the system reads of its host, by the word of who wrote this.\nhost_input = [\"none\"]"},
		{[]string{"--kernel", files.kernel, "--line", "ro root=/dev/sda", "--root", "initrd"}, "besides the initrd"},
		{[]string{"--kernel", files.kernel, "--line", "ro rd.break"}, `["rd.break"]`},
		{[]string{"--kernel", files.kernel, "--line", "ro\nx"}, "newline"},
	} {
		if _, stdout, stderr := try(t, c.args...); !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%q: %s%s", c.args, stdout, stderr)
		}
	}
}

func TestRefused(t *testing.T) {
	files := build(t)
	log := write(t, files.dir, "log", []byte("no log"))
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "there must be --firmware", nil},
		{1, "must not be given together", []string{"--uki", files.uki, "--kernel", files.kernel}},
		{1, "must come with --firmware", []string{"--kernel", files.kernel, "--acpi", files.acpi}},
		{1, "what is booted", []string{"--firmware", files.firmware, "--line", "x"}},
		{1, "less is no policy", []string{"--kernel", files.kernel, "--line", "x", "--policy"}},
		{1, "must not come with --uki", []string{"--uki", files.uki, "--line", "x"}},
		{1, "must not come with --kernel", []string{"--kernel", files.kernel, "--disk", "none"}},
		{1, "must be a size", []string{"--firmware", files.firmware, "--memory", "2X"}},
		{1, "must be 0 or 1", []string{"--firmware", files.firmware, "--separator", "3"}},
		{1, "no such file", []string{"--uki", files.dir + "/none"}},
		{1, "must be there once", []string{"--grub", files.acpi}},
		{5, "not an EFI program", []string{"--uki", files.initrd}},
		{5, "no firmware of a TD", []string{"--firmware", files.kernel}},
		{5, "boot log", []string{"--uki", files.uki, "--check", log}},
		{5, "no GUID partition table", []string{"--uki", files.uki, "--disk", files.kernel}},
	} {
		if code, stdout, stderr := try(t, c.args...); code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%q: %d, %s%s", c.args, code, stdout, stderr)
		}
	}
}

// Each kind that is expected somewhere has a word on what to look at.
func TestHints(t *testing.T) {
	files := build(t)
	for _, args := range [][]string{{"--kernel", files.kernel, "--initrd", files.initrd, "--line", "ro"}, {"--uki", files.uki, "--esp", files.esp}, {"--grub", files.esp}} {
		_, stdout, stderr := try(t, append(append(files.firmwareFlags(), args...), "--json")...)
		var r report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err, stderr)
		}
		for _, e := range r.Events {
			want := &expected.Event{Kind: e.Kind}
			if !e.Many && hint(want.Kind) == "" {
				t.Errorf("kind %q has no hint", e.Kind)
			}
		}
	}
}
