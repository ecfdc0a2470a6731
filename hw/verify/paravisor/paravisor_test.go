package paravisor

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/tables"
)

// text is a table [vtpm.v] with a value of PCRs 0 to 7, and more.
func text(paravisor, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "paravisor = %q\n", paravisor)
	for i := range 8 {
		fmt.Fprintf(&b, "pcr%d = %q\n", i, strings.Repeat(fmt.Sprintf("%02x", i+1), 32))
	}
	return b.String() + more
}

func read(t *testing.T, text string) (Rules, bool, error) {
	t.Helper()
	all, err := tables.Read("policy", []byte(text), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	r, open := Read(all)
	all.Done()
	return r, open, all.Errors()
}

// quoted are PCRs as text wants them: 0 to 7 have values, the others are zero.
func quoted() (pcrs [][]byte) {
	for i := range 24 {
		value := make([]byte, 32)
		if i < 8 {
			value = bytes.Repeat([]byte{byte(i + 1)}, 32)
		}
		pcrs = append(pcrs, value)
	}
	return pcrs
}

func TestDiffers(t *testing.T) {
	of := hw.Digest{0xAA}
	var rest strings.Builder
	for i := 8; i < 16; i++ {
		if i != 13 {
			fmt.Fprintf(&rest, "pcr%d = \"zero\"\n", i)
		}
	}
	for name, c := range map[string]struct {
		more   string
		change func(pcrs [][]byte)
		of     hw.Digest
		log    int
		open   bool
		differ []string
	}{
		"as wanted":              {rest.String() + `pcr13 = "log"`, func(p [][]byte) { p[13][0] = 1 }, of, 13, false, nil},
		"another paravisor":      {rest.String() + `pcr13 = "log"`, nil, hw.Digest{1}, 13, false, []string{"the paravisor is 01"}},
		"a PCR of the firmware":  {rest.String() + `pcr13 = "log"`, func(p [][]byte) { p[7][0] = 0 }, of, 13, false, []string{"PCR 7 is 0008"}},
		"one that must be zero":  {rest.String() + `pcr13 = "log"`, func(p [][]byte) { p[15][31] = 1 }, of, 13, false, []string{"PCR 15 is 00"}},
		"the log is elsewhere":   {rest.String() + `pcr13 = "log"`, func(p [][]byte) { p[13][0] = 1 }, of, 12, false, []string{"PCR 13 is 01"}},
		"the log is nowhere":     {rest.String() + `pcr13 = "log"`, nil, of, -1, false, []string{"PCR 13 is zero, want log"}},
		"one is any":             {rest.String() + `pcr13 = "any"`, func(p [][]byte) { p[13][0] = 1 }, of, -1, true, nil},
		"one is absent":          {rest.String(), func(p [][]byte) { p[13][0] = 1 }, of, -1, true, nil},
		"of two, the second":     {rest.String() + `pcr13 = ["` + strings.Repeat("ee", 32) + `", "zero"]`, nil, of, -1, false, nil},
		"beyond is not asked of": {rest.String() + `pcr13 = "zero"`, func(p [][]byte) { p[16][0], p[23][0] = 1, 1 }, of, -1, false, nil},
	} {
		r, open, err := read(t, text(of.String(), c.more))
		if err != nil || open != c.open {
			t.Errorf("%s: open %v, %v", name, open, err)
			continue
		}
		pcrs := quoted()
		if c.change != nil {
			c.change(pcrs)
		}
		got := r.Differs(c.of, pcrs, c.log)
		ok := len(got) == len(c.differ)
		for i := range min(len(got), len(c.differ)) {
			ok = ok && strings.HasPrefix(got[i], c.differ[i])
		}
		if !ok {
			t.Errorf("%s: %q, must be %q", name, got, c.differ)
		}
	}
}

// TestRefused: what a policy can't mean.
func TestRefused(t *testing.T) {
	good := hw.Digest{0xAA}.String()
	for what, want := range map[string]string{
		strings.Replace(text(good, ""), "paravisor", "#", 1): "paravisor must be there",
		text("zero", ""): "96 lower-case hex digits",
		strings.Replace(text(good, ""), "pcr7 =", "#", 1):                  "pcr7 must be there",
		strings.Replace(text(good, ""), "pcr7 =", "pcr7 = []\n#", 1):       "pcr7 must be there",
		text(good, `pcr8 = "00"`):                                          "64 lower-case hex digits",
		text(good, `pcr8 = []`):                                            "pcr8 must be there",
		text(strings.Repeat("0", 96), ""):                                  "not all zeros",
		text(good, `pcr8 = "`+strings.Repeat("0", 64)+`"`):                 "not all zeros",
		text(good, `pcr8 = 0`):                                             "must be a list of texts",
		text(good, `pcr13 = ["log", "any"]`):                               `pcr13 must be "log" or "any"`,
		strings.Replace(text(good, ""), "pcr4 =", "pcr4 = \"zero\"\n#", 1): "a separator",
		text(good, `pcr16 = "zero"`):                                       `has no key "pcr16"`,
	} {
		if _, _, err := read(t, what); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, must say %q", what, err, want)
		}
	}
}
