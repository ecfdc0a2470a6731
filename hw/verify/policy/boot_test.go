package policy

import (
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/logs/boot"
)

var december = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

func digest(b string) hw.Digest { return digestOf(strings.Repeat(b, 48)) }

// logOf makes a boot log of digests for a register each.
func logOf(t testing.TB, rtmr int, digests ...hw.Digest) *boot.Log {
	t.Helper()
	var events []boot.Event
	for _, d := range digests {
		events = append(events, boot.Event{MR: uint32(rtmr + 1), Type: boot.EvIPL, Digest: d, Data: []byte("x")})
	}
	log, err := boot.Parse(boot.Encode(events))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// differs is how a boot of these values is not that of the policy, "" if it is.
func differs(t testing.TB, p *Policy, now Booted, at time.Time) string {
	t.Helper()
	found, err := p.JudgeBoot(now, at)
	if err != nil {
		t.Fatal(err)
	}
	return found.Differences()
}

func minimal(firmware, system, more string) string {
	return fmt.Sprintf(`cima_policy = 2
[firmware.f]
mrtd = "%s"
%s
[system.s]
root = "not covered"
host_input = "none"
%s
[[boot]]
name = "b"
firmware = "f"
system = "s"
%s`, strings.Repeat("a1", 48), firmware, system, more)
}

func hexOf(b string) string { return strings.Repeat(b, 48) }

// Registers by value: each counts, and zeros are met by the word alone (ATTACKS, V3).
func TestRegistersByValue(t *testing.T) {
	known := fmt.Sprintf("rtmr1 = %q\nrtmr2 = %q\n", hexOf("b1"), hexOf("b2"))
	p := parse(t, minimal("rtmr0 = \""+hexOf("b0")+"\"", known, ""))
	good := Booted{MRTD: digest("a1"), RTMR: [3]hw.Digest{digest("b0"), digest("b1"), digest("b2")}}
	if d := differs(t, p, good, december); d != "" {
		t.Error(d)
	}
	for i := range 3 {
		bad := good
		bad.RTMR[i] = hw.Digest{}
		if d := differs(t, p, bad, december); !strings.Contains(d, fmt.Sprintf("RTMR%d is zero, want b%d", i, i)) {
			t.Errorf("RTMR%d: %q", i, d)
		}
	}
	bad := good
	bad.MRTD = digest("a2")
	if d := differs(t, p, bad, december); !strings.HasPrefix(d, "MRTD is a2a2") {
		t.Error(d)
	}
	further := good
	further.Further, further.Begun = true, true
	if d := differs(t, p, further, december); !strings.Contains(d, "os_log") {
		t.Error(d)
	}
	p = parse(t, minimal("rtmr0 = \""+hexOf("b0")+"\"", known+"os_log = true\n", ""))
	if d := differs(t, p, further, december); d != "" {
		t.Error(d)
	}
	further.Begun = false
	if d := differs(t, p, further, december); !strings.Contains(d, "boot_aggregate") {
		t.Error(d)
	}
	azure := parse(t, minimal("rtmr0 = \"zero\"", "rtmr1 = \"zero\"\nrtmr2 = \"zero\"\n", ""))
	if d := differs(t, azure, Booted{MRTD: digest("a1")}, december); d != "" {
		t.Error(d)
	}
	if d := differs(t, azure, good, december); strings.Count(d, "want zero") != 3 {
		t.Error(d)
	}
}

// Sequences: order and number of the events count.
func TestSequences(t *testing.T) {
	names := strings.Fields("hob cfv sb sep a1 a2 a3 bo b0 b1 sbat sep")
	of := func(name string) hw.Digest { return sha512.Sum384([]byte(name)) }
	var all []hw.Digest
	for _, n := range names {
		all = append(all, of(n))
	}
	for _, c := range []struct{ sequence, want string }{
		{"*hob cfv sb sep *acpi *acpi *acpi *boot… sbat sep", ""},
		{"*hob cfv sb sep *acpi *acpi *acpi *boot...", ""},
		{"hob *x… sbat *y", ""},
		{"*hob cfv sb1 sep", "event 3 of RTMR0 is"},
		{"*hob cfv sb sep", "event 5 of RTMR0"},
		{"*hob cfv sb sep *a *a *a *b *b *b sbat sep hob", "RTMR0 ends after 12 events, want 13"},
		{"*hob cfv sb sep *a *a *a *b *b *b sbat sep *more", "RTMR0 ends after 12 events"},
		{"*x… none", "has no event"},
		{"*x… sb *y… cfv", "has no event"}, // it stands before
		{"cfv hob *x…", "event 1 of RTMR0 is"},
	} {
		var items []string
		for item := range strings.FieldsSeq(c.sequence) {
			if !strings.HasPrefix(item, "*") {
				item = of(item).String()
			}
			items = append(items, fmt.Sprintf("%q", item))
		}
		p := parse(t, minimal("rtmr0 = ["+strings.Join(items, ",")+"]", "rtmr1 = \"zero\"\nrtmr2 = \"zero\"\n", ""))
		now := Booted{MRTD: digest("a1"), Log: logOf(t, 0, all...)}
		if d := differs(t, p, now, december); (d == "") != (c.want == "") || !strings.Contains(d, c.want) {
			t.Errorf("%s: %q, want %q", c.sequence, d, c.want)
		}
		if now.Log = nil; !strings.Contains(differs(t, p, now, december), "there is no boot log") {
			t.Errorf("%s: fits without a log", c.sequence)
		}
		found, err := p.JudgeBoot(Booted{MRTD: digest("a1"), Log: logOf(t, 0, all...)}, december)
		if open := strings.Contains(c.sequence, "*"); err != nil || c.want == "" && slices.Contains(found.Known[0].Gaps, codes.FirmwareVaries) != open {
			t.Errorf("%s: gaps %v", c.sequence, found.Known)
		}
	}
}

// The line that a policy names is an event of RTMR2, whole.
func TestLine(t *testing.T) {
	system := "rtmr1 = \"zero\"\nrtmr2 = \"zero\"\nline = \"ro quiet\"\n"
	p := parse(t, minimal("rtmr0 = \"zero\"", system, ""))
	for text, want := range map[string]string{
		"ro quiet": "", "ro quiet\x00": "", "r\x00o\x00 \x00q\x00u\x00i\x00e\x00t\x00": "", "r\x00o\x00 \x00q\x00u\x00i\x00e\x00t\x00\x00\x00": "",
		"ro quiet init=/evil": "no event of RTMR2", "evil\nro quiet": "no event of RTMR2",
	} {
		now := Booted{MRTD: digest("a1"), Log: logOf(t, 2, hw.Digest{7}, sha512.Sum384([]byte(text)))}
		if d := differs(t, p, now, december); (d == "") != (want == "") || !strings.Contains(d, want) {
			t.Errorf("%q: %q", text, d)
		}
	}
	if d := differs(t, p, Booted{MRTD: digest("a1"), Log: logOf(t, 1, sha512.Sum384([]byte("ro quiet")))}, december); d == "" {
		t.Error("a line in RTMR1 was taken")
	}
	if d := differs(t, p, Booted{MRTD: digest("a1")}, december); !strings.Contains(d, "no boot log") {
		t.Errorf("without a log: %q", d)
	}
}

// Alternatives: any firmware with any system, each for its time; the nearest is told.
func TestAlternatives(t *testing.T) {
	p := parse(t, example(t, "platform.toml"))
	line := sha512.Sum384([]byte("ro roothash=" + strings.Repeat("6f1d", 16)))
	now := Booted{MRTD: digest("a3"), RTMR: [3]hw.Digest{digest("03"), digest("c1"), digest("d1")}, Log: logOf(t, 2, line)}
	found, err := p.JudgeBoot(now, december)
	if err != nil || len(found.Known) != 1 || found.Known[0].Firmware != "ovmf-2025.02" || found.Known[0].System != "k-6.12" || len(found.Known[0].Gaps) != 0 {
		t.Errorf("%+v %v", found, err)
	}
	for at, want := range map[time.Time]string{
		december.AddDate(0, 0, 31): "system k-6.12 was valid until 2027-01-01T00:00:00Z",
		december.AddDate(0, 0, 46): "firmware ovmf-2025.02 was valid until 2027-01-15T00:00:00Z; system k-6.12",
	} {
		if d := differs(t, p, now, at); !strings.HasPrefix(d, want) {
			t.Errorf("%s: %q", at, d)
		}
	}
	now.RTMR[2] = digest("d7")
	found, err = p.JudgeBoot(now, december)
	if err != nil || found.Nearest != "fleet" || len(found.Differ) != 1 || !strings.HasPrefix(found.Differ[0], "RTMR2 is d7d7") {
		t.Errorf("%+v %v", found, err)
	}
}

func TestBootGaps(t *testing.T) {
	for system, want := range map[string]string{
		"rtmr1 = \"zero\"\nrtmr2 = \"zero\"\n":                            "root-not-covered",
		"rtmr1 = \"zero\"\nrtmr2 = [\"*any\", \"" + hexOf("77") + "\"]\n": "boot-varies root-not-covered",
		"rtmr1 = \"zero\"\nrtmr2 = \"zero\"\nline = \"rd.break\"\n":       "root-not-covered line-opens",
		"HOST": "root-not-covered host-input-smbios host-input-aml",
	} {
		text := minimal("rtmr0 = \"zero\"", system, "")
		if system == "HOST" {
			text = strings.Replace(minimal("rtmr0 = \"zero\"", "rtmr1 = \"zero\"\nrtmr2 = \"zero\"\n", ""), `"none"`, `["smbios", "aml"]`, 1)
		}
		p := parse(t, text)
		if got := strings.Join(p.systems["s"].gaps, " "); got != want {
			t.Errorf("%s: %s, want %s", system, got, want)
		}
	}
	p := parse(t, minimal("rtmr0 = \"zero\"", "rtmr1 = \"zero\"\nrtmr2 = \"zero\"\n", "waive = [\"root-not-covered\"]\n"))
	found, err := p.JudgeBoot(Booted{MRTD: digest("a1")}, december)
	if err != nil || found.Known == nil {
		t.Fatal(found, err)
	}
	if stands, waived := p.Wishes(&found.Known[0], nil).Stands(codes.Root); stands || !waived {
		t.Error("not waived")
	}
	if stands, _ := p.Wishes(nil, nil).Stands(codes.Root); !stands {
		t.Error("another's waiver counts")
	}
}

// Older GRUBs hash a line with its NUL, and log bytes of their heap behind it: the digest
// alone counts, whatever the event shows.
func TestLinesOfOldGRUBs(t *testing.T) {
	const line = "/vmlinuz root=UUID=1 ro roothash=aa"
	for name, c := range map[string]struct{ hashed, data string }{
		"upstream": {line, "kernel_cmdline: " + line + "\x00"}, "a stray byte": {line, "grub_kernel_cmdline " + line + "\x00r"},
		"the NUL is hashed": {line + "\x00", "grub_cmd " + line + "\x00"}, "both": {line + "\x00", "grub_cmd " + line + "\x00`"},
	} {
		log, err := boot.Parse(boot.Encode([]boot.Event{{MR: 3, Type: boot.EvIPL, Digest: sha512.Sum384([]byte(c.hashed)), Data: []byte(c.data)}}))
		if err != nil {
			t.Fatal(err)
		}
		registers, err := log.Replay()
		if err != nil {
			t.Fatal(err)
		}
		now := Booted{Log: log, MRTD: digest("a1"), RTMR: [3]hw.Digest(registers[:3])}
		for _, hash := range []string{"aa", "bb"} {
			text := strings.Replace(line, "roothash=aa", "roothash="+hash, 1)
			p := parse(t, minimal("rtmr0 = \"zero\"", fmt.Sprintf("rtmr1 = \"zero\"\nrtmr2 = %q\nline = %q\n", hw.Digest(registers[2]), text), ""))
			if d := differs(t, p, now, december); (d == "") != (hash == "aa") {
				t.Errorf("%s, %s: %q", name, text, d)
			}
		}
	}
}
