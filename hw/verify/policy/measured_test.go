package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
)

// TestMeasured: an SNP guest's boot is one of [measured.NAME], and what that does not cover
// is told.
func TestMeasured(t *testing.T) {
	one, two := strings.Repeat("1", 96), strings.Repeat("2", 96)
	const head = "cima_policy = 2\n[[boot]]\nname = \"b\"\nmeasured = \"m\"\n[measured.m]\n"
	measured := digestOf(one)
	guest := Booted{Measurement: &measured}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		text string
		now  Booted
		gaps []string // of the boot that fits
		say  string   // where none fits
	}{
		"firmware":      {"measurement = \"" + one + "\"\ncovers = \"firmware\"", guest, []string{codes.BootFirmware}, ""},
		"system":        {"measurement = [\"" + two + "\", \"" + one + "\"]\ncovers = \"system\"\nline = \"quiet\"\nroot = \"initrd\"\nhost_input = \"none\"", guest, nil, ""},
		"root is open":  {"measurement = \"" + one + "\"\ncovers = \"system\"\nroot = \"not covered\"\nhost_input = \"disk\"", guest, []string{codes.Root, codes.HostDisk}, ""},
		"another":       {"measurement = \"" + two + "\"\ncovers = \"firmware\"", guest, nil, "MEASUREMENT is 1111"},
		"run out":       {"measurement = \"" + one + "\"\ncovers = \"firmware\"\nuntil = 2026-01-01", guest, nil, "measured m was valid until"},
		"a TD":          {"measurement = \"" + one + "\"\ncovers = \"firmware\"", Booted{MRTD: measured}, nil, "the boot of an SNP guest, and this is a TD"},
		"a TD of zeros": {"measurement = \"" + one + "\"\ncovers = \"firmware\"", Booted{}, nil, "the boot of an SNP guest, and this is a TD"},
	} {
		p, err := Parse("p", []byte(head+c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		boots, err := p.JudgeBoot(c.now, at)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.say == "" && (len(boots.Known) != 1 || boots.Known[0].Measured != "m" || !slices.Equal(boots.Known[0].Gaps, c.gaps)):
			t.Errorf("%s: %+v", name, boots)
		case c.say != "" && (len(boots.Known) != 0 || !strings.Contains(boots.Differences(), c.say)):
			t.Errorf("%s: %+v, %s", name, boots, boots.Differences())
		}
	}
	// A guest is never the boot of a TD, and the nearest boot is of its own kind.
	td := "[firmware.f]\nmrtd = \"" + one + "\"\nrtmr0 = \"zero\"\n[system.s]\nrtmr1 = \"zero\"\nrtmr2 = \"zero\"\nroot = \"not covered\"\nhost_input = \"none\"\n[[boot]]\nname = \"td\"\nfirmware = \"f\"\nsystem = \"s\"\n"
	p, err := Parse("p", []byte("cima_policy = 2\n"+td))
	if err != nil {
		t.Fatal(err)
	}
	if boots, err := p.JudgeBoot(Booted{Measurement: &measured, MRTD: measured}, at); err != nil || boots.Known != nil || !strings.Contains(boots.Differences(), "the boot of a TD") {
		t.Errorf("%+v, %v", boots, err)
	}
	if p, err = Parse("p", []byte(head+"measurement = \""+one+"\"\ncovers = \"firmware\"\n"+td)); err != nil {
		t.Fatal(err)
	}
	if boots, err := p.JudgeBoot(Booted{RTMR: [3]hw.Digest{{1}, {2}, {3}}}, at); err != nil || boots.Nearest != "td" {
		t.Errorf("nearest is %q, %v", boots.Nearest, err)
	}
}

func TestMeasuredRefused(t *testing.T) {
	one := "measurement = \"" + strings.Repeat("1", 96) + "\"\n"
	const boot = "cima_policy = 2\n[[boot]]\nname = \"b\"\nmeasured = \"m\"\n"
	for text, want := range map[string]string{
		boot + "[measured.m]\ncovers = \"firmware\"":                                                                                      "measurement must be there",
		boot + "[measured.m]\nmeasurement = \"zero\"\ncovers = \"firmware\"":                                                              "96 lower-case hex digits",
		boot + "[measured.m]\n" + one:                                                                                                     `covers must be "firmware", or "system"`,
		boot + "[measured.m]\n" + one + "covers = \"all\"":                                                                                `covers must be "firmware", or "system"`,
		boot + "[measured.m]\n" + one + "covers = \"firmware\"\nroot = \"initrd\"":                                                        `no key "root"`,
		boot + "[measured.m]\n" + one + "covers = \"system\"":                                                                             "root must be there",
		boot + "[measured.m]\n" + one + "covers = \"system\"\nroot = \"initrd\"\nhost_input = \"none\"":                                   "must come with line",
		boot + "[measured.m]\n" + one + "covers = \"system\"\nroot = \"initrd\"\nhost_input = \"none\"\nline = \"root=/dev/sda\"":         "doesn't cover it",
		boot + "[measured.n]\n" + one + "covers = \"firmware\"":                                                                           "there is no [measured.m]",
		"cima_policy = 2\n[measured.m]\n" + one + "covers = \"firmware\"":                                                                 "nothing uses [measured.m]",
		"cima_policy = 2\n[[boot]]\nname = \"b\"\nmeasured = \"m\"\nfirmware = \"f\"\n[measured.m]\n" + one + "covers = \"firmware\"":     "or measured, of an SNP guest",
		"cima_policy = 2\n[[boot]]\nname = \"b\"\nmeasured = []\n[measured.m]\n" + one + "covers = \"firmware\"":                          "must have firmware and system",
		"cima_policy = 2\n[snp]\nmeasurement = \"" + strings.Repeat("1", 96) + "\"":                                                       `[snp] has no key "measurement"`,
		"cima_policy = 2\n[[boot]]\nname = \"b\"\nmeasured = \"m\"\nsystem = []\n[measured.m]\n" + one + "covers = \"firmware\"":          "or measured, of an SNP guest",
		"cima_policy = 2\n[snp]\nmin_tcb.milan = { bl = 1 }":                                                                              "tee must be there",
		"cima_policy = 2\n[snp]\nmin_tcb.milan = { bl = 1, tee = 1, snp = 1, ucode = 1 }\nmin_tcb.genoa = { bl = 1, snp = 1, ucode = 1 }": "[snp.min_tcb.genoa]: tee must be there",
	} {
		if _, err := Parse("p", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, must say %q", text, err, want)
		}
	}
}
