package policy

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
)

func tdOf(attributes, xfam uint64) TD {
	var td TD
	binary.LittleEndian.PutUint64(td.Attributes[:], attributes)
	binary.LittleEndian.PutUint64(td.XFAM[:], xfam)
	return td
}

// TDATTRIBUTES are a closed list: each of the 64 bits is free, named or refused.
func TestAttributes(t *testing.T) {
	const septVE = 1 << 28
	byDefault := parse(t, "cima_policy = 2\n")
	for bit := range 64 {
		name := attributes[bit]
		td := tdOf(septVE|1<<bit, 0x61ae7)
		free := bit == 28 || slices.Contains(freeAttributes, name)
		found := byDefault.JudgeTD(td)
		if (wrong(found) == "") != free {
			t.Errorf("bit %d, %q, by default: %q", bit, name, wrong(found))
		}
		_, open := byDefault.JudgeOpen(td)
		if slices.Contains(open, codes.TDOpen) != (bit < 8) || slices.Contains(open, codes.ServiceTD) != (bit == migratable) {
			t.Errorf("bit %d is open: %q", bit, open)
		}
		if name == "" || bit == 28 {
			continue
		}
		named := parse(t, "cima_policy = 2\n[td]\nattributes = [\"sept-ve-disable\", \""+name+"\"]\n")
		if got := wrong(named.JudgeTD(td)); got != "" {
			t.Errorf("bit %d, named: %q", bit, got)
		}
		if got := wrong(named.JudgeTD(tdOf(septVE, 0x61ae7))); got != "TDATTRIBUTES" {
			t.Errorf("bit %d, named and not there: %q", bit, got)
		}
	}
	if got := wrong(byDefault.JudgeTD(tdOf(0, 0x61ae7))); got != "TDATTRIBUTES" {
		t.Errorf("without SEPT_VE_DISABLE: %q", got)
	}
}

func TestTDMembers(t *testing.T) {
	p := parse(t, "cima_policy = 2\n")
	for xfam, want := range map[uint64]string{0x61ae7: "", 0x602e7: "", 3: "", 0x642e7: "XFAM", 1: "XFAM", 0: "XFAM", 1<<63 | 3: "XFAM"} {
		if got := wrong(p.JudgeTD(tdOf(1<<28, xfam))); got != want {
			t.Errorf("XFAM %x: %q", xfam, got)
		}
	}
	one, good := hw.Digest{1}, tdOf(1<<28, 3)
	for member, change := range map[string]func(*TD){
		"mrconfigid": func(td *TD) { td.ConfigID = one }, "mrowner": func(td *TD) { td.Owner = one }, "mrownerconfig": func(td *TD) { td.OwnerConfig = one },
		"devinfo": func(td *TD) { td.Extended = &Extended{DeviceInfo: one} },
	} {
		td := good
		change(&td)
		if wrong(p.JudgeTD(td)) == "" {
			t.Errorf("%s: any is taken", member)
		}
		for _, value := range []string{one.String(), "any"} {
			if got := wrong(parse(t, "cima_policy = 2\n[td]\n"+member+" = \""+value+"\"\n").JudgeTD(td)); got != "" {
				t.Errorf("%s = %s: %q", member, value, got)
			}
		}
	}
	td := good
	td.Extended = &Extended{VMID: 1}
	if got := wrong(p.JudgeTD(td)); got != "VMID" {
		t.Errorf("another VM: %q", got)
	}
	if got := wrong(parse(t, "cima_policy = 2\n[td]\nvmid = \"1\"\n").JudgeTD(td)); got != "" {
		t.Errorf("a VM that is named: %q", got)
	}
	for name, x := range map[string]*Extended{"initial": {InitialServiceTD: one}, "current": {CurrentServiceTD: one}} {
		td := good
		td.Extended = x
		if found, open := p.JudgeOpen(td); wrong(found) != "service TD" || !slices.Contains(open, codes.ServiceTD) {
			t.Errorf("%s service TD: %+v, %q", name, found, open)
		}
		if found, _ := parse(t, "cima_policy = 2\n[td]\nservice_tds = \""+one.String()+"\"\n").JudgeOpen(td); wrong(found) != "" {
			t.Errorf("%s service TD, named: %+v", name, found)
		}
	}
}
