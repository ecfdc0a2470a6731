package firstseen

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

// What is unusual of a TD is written, and what a policy can't allow is told.
func TestUnusualTD(t *testing.T) {
	usual := policy.TD{Attributes: [8]byte{3: 0x10}, XFAM: [8]byte{0xe7, 0x1a, 0x06}}
	with := func(change func(td *policy.TD)) policy.TD {
		td := usual
		change(&td)
		return td
	}
	for name, c := range map[string]struct {
		tds   []policy.TD
		lines []string
		notes []string
	}{
		"usual":         {[]policy.TD{usual}, nil, nil},
		"with perfmon":  {[]policy.TD{with(func(td *policy.TD) { td.Attributes[7] = 0x80 })}, nil, nil},
		"without VE":    {[]policy.TD{with(func(td *policy.TD) { td.Attributes[3] = 0 })}, []string{"attributes = []"}, nil},
		"under debug":   {[]policy.TD{with(func(td *policy.TD) { td.Attributes[0] = 1 })}, []string{`attributes = ["debug","sept-ve-disable"]`}, []string{"under debug"}},
		"reserved bits": {[]policy.TD{with(func(td *policy.TD) { td.Attributes[5] = 1 })}, []string{`attributes = ["sept-ve-disable"]`}, []string{"reserved bits"}},
		"two, that differ": {[]policy.TD{usual, with(func(td *policy.TD) { td.Attributes[0] = 1 })}, nil,
			[]string{"under debug", "different TDATTRIBUTES"}},
		"more features": {[]policy.TD{with(func(td *policy.TD) { td.XFAM[2] = 0x07 }), with(func(td *policy.TD) { td.XFAM[3] = 1 })}, []string{`xfam = "1071ae7"`}, nil},
		"an owner":      {[]policy.TD{with(func(td *policy.TD) { td.Owner = hw.Digest{1} })}, []string{`mrowner = ["01`}, nil},
		"a VM in it": {[]policy.TD{with(func(td *policy.TD) { td.Extended = &policy.Extended{VMID: 2, DeviceInfo: hw.Digest{2}} })},
			[]string{`vmid = ["2"]`, `devinfo = ["02`}, nil},
		"1.5 Ex, as usual": {[]policy.TD{with(func(td *policy.TD) { td.Extended = &policy.Extended{} })}, nil, nil},
	} {
		var seen []Seen
		for _, td := range c.tds {
			seen = append(seen, Seen{TD: td, Claims: &rpc.Claims{Host: &rpc.HostClaims{Unit: "a.service"}}, Booted: policy.Booted{MRTD: hw.Digest{9}}})
		}
		text, notes, err := Policy(seen, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, table, there := strings.Cut(string(text), "\n[td]\n")
		if there != (c.lines != nil) {
			t.Errorf("%s: [td] is there: %v", name, there)
		}
		for _, line := range c.lines {
			if !strings.Contains("\n"+table, "\n"+line) {
				t.Errorf("%s: %s is missing in\n%.300s", name, line, table)
			}
		}
		for _, note := range c.notes {
			if !strings.Contains(strings.Join(notes, "\n"), note) {
				t.Errorf("%s: %q is missing in %q", name, note, notes)
			}
		}
		if c.notes == nil && len(notes) > 0 {
			t.Errorf("%s: %q", name, notes)
		}
	}
}
