package policy

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// attributes are the bits of TDATTRIBUTES that Intel names (TDX Module ABI,
// TD_ATTRIBUTES), by bit. All others are reserved, and never allowed.
var attributes = map[int]string{
	0: "debug", 4: "hgs-plus-prof", 5: "perf-prof", 6: "pmt-prof", 16: "icssd", 17: "servtd-ext", 27: "lass",
	28: "sept-ve-disable", 29: "migratable", 30: "pks", 31: "kl", 62: "tpa", 63: "perfmon",
}

// underDebug are those with which a host reads the TD: bits 0–7.
const underDebug = 0xff

const migratable = 29

// defaultXFAM are the features that a TD may have where a policy says nothing: x87 to
// AVX-512, PKRU, CET, AMX.
const defaultXFAM = 0x61ae7

// TD are the members of a quote that [td] is about.
type TD struct {
	Attributes  [8]byte
	XFAM        [8]byte
	MRSEAM      hw.Digest
	ConfigID    hw.Digest
	Owner       hw.Digest
	OwnerConfig hw.Digest
	ServiceTD   *hw.Digest // nil in bodies of TDX 1.0

	Extended *Extended // of the body TD report 1.5 Ex
}

// Extended are the members that quotes of body type 4 have besides.
type Extended struct {
	VMID             byte
	DeviceInfo       hw.Digest
	InitialServiceTD hw.Digest // when the TD was made
	CurrentServiceTD hw.Digest
}

// tdRules are [td].
type tdRules struct {
	attributes  []string // exactly these, of which lass, pks, kl and perfmon are free where the key is left out
	given       bool
	xfam        uint64
	mrseam      []string
	configID    []string
	owner       []string
	ownerConfig []string
	serviceTDs  []string
	devices     []string
	vmIDs       []string
}

func attributeNames() (all []string) {
	for bit := range 64 {
		if name := attributes[bit]; name != "" {
			all = append(all, name)
		}
	}
	return all
}

// freeAttributes weaken nothing.
var freeAttributes = []string{"lass", "pks", "kl", "perfmon"}

func readTD(t *tables.Table) tdRules {
	r := tdRules{xfam: defaultXFAM}
	r.attributes = t.Texts("attributes", tables.OneOf("bit", attributeNames()))
	if r.given = r.attributes != nil; !r.given {
		r.attributes = []string{"sept-ve-disable"}
	}
	if s := t.Text("xfam"); s != "" {
		var err error
		if r.xfam, err = strconv.ParseUint(s, 16, 64); err != nil {
			t.Bad("xfam", "the features that a TD may have, in hex")
		}
	}
	r.mrseam = t.Texts("mrseam", digest384)
	zeroUnless := func(name string) []string {
		if list := t.Texts(name, digestZeroOrAny); list != nil {
			return list
		}
		return []string{zeroWord}
	}
	r.configID, r.owner, r.ownerConfig = zeroUnless("mrconfigid"), zeroUnless("mrowner"), zeroUnless("mrownerconfig")
	r.devices = zeroUnless("devinfo")
	r.serviceTDs = t.Texts("service_tds", digestOrAny)
	if r.vmIDs = t.Texts("vmid", tables.OneOf("number", []string{"0", "1", "2", "3"})); r.vmIDs == nil {
		r.vmIDs = []string{"0"}
	}
	return r
}

// defaultTD are the rules of a policy without [td], and of none.
var defaultTD = tdRules{attributes: []string{"sept-ve-disable"}, xfam: defaultXFAM, configID: zeroAlone, owner: zeroAlone, ownerConfig: zeroAlone, devices: zeroAlone, vmIDs: []string{"0"}}

var zeroAlone = []string{zeroWord}

func (p *Policy) rulesOfTD() tdRules {
	if p == nil {
		return defaultTD
	}
	return p.td
}

// JudgeOpen says who else has the keys to the TD's memory, by the policy or, where that
// is nil, by none. gaps are the codes of what the policy lets open.
func (p *Policy) JudgeOpen(td TD) (found wanted.Findings, gaps []string) {
	r := p.rulesOfTD()
	bits := binary.LittleEndian.Uint64(td.Attributes[:])
	if open := bits & underDebug; open != 0 {
		found.Want(!slices.ContainsFunc(attributeNamesOf(open), func(name string) bool { return !slices.Contains(r.attributes, name) }),
			"TDATTRIBUTES, bits 0–7", "none, or those of [td]", attributeWords(open))
		gaps = append(gaps, codes.TDOpen)
	}
	if r.serviceTD(&found, td, bits) {
		gaps = append(gaps, codes.ServiceTD)
	}
	return found, gaps
}

// JudgeTD holds the members of a quote against [td], but those of JudgeOpen.
func (p *Policy) JudgeTD(td TD) (found wanted.Findings) {
	r := p.rulesOfTD()
	bits := binary.LittleEndian.Uint64(td.Attributes[:])
	found.Want(r.allows(bits), "TDATTRIBUTES", names(r.attributes), attributeWords(bits))
	for _, name := range r.attributes {
		if r.given && !slices.Contains(attributeNamesOf(bits), name) {
			found.Want(false, "TDATTRIBUTES", name, attributeWords(bits))
		}
	}
	xfam := binary.LittleEndian.Uint64(td.XFAM[:])
	found.Want(xfam&^r.xfam == 0 && xfam&3 == 3, "XFAM", fmt.Sprintf("3, and of %x no more", r.xfam), fmt.Sprintf("%x", xfam))
	if r.mrseam != nil {
		wantDigest(&found, "MRSEAM", r.mrseam, td.MRSEAM)
	}
	wantDigest(&found, "MRCONFIGID", r.configID, td.ConfigID)
	wantDigest(&found, "MROWNER", r.owner, td.Owner)
	wantDigest(&found, "MROWNERCONFIG", r.ownerConfig, td.OwnerConfig)
	if x := td.Extended; x != nil {
		found.Want(slices.Contains(r.vmIDs, strconv.Itoa(int(x.VMID))), "VMID", tables.Or(r.vmIDs), strconv.Itoa(int(x.VMID)))
		wantDigest(&found, "DEVINFO", r.devices, x.DeviceInfo)
	}
	return found
}

// serviceTD judges who else has the keys to the TD, and reports whether somebody has.
func (r tdRules) serviceTD(found *wanted.Findings, td TD, bits uint64) bool {
	var seen []hw.Digest
	if td.ServiceTD != nil {
		seen = append(seen, *td.ServiceTD)
	}
	if x := td.Extended; x != nil {
		seen = append(seen, x.InitialServiceTD, x.CurrentServiceTD)
	}
	seen = slices.DeleteFunc(seen, func(d hw.Digest) bool { return d == hw.Digest{} })
	switch migrates := bits>>migratable&1 == 1; {
	case len(seen) == 0 && !migrates:
		return false
	case len(seen) == 0:
		found.Want(slices.Contains(r.serviceTDs, anyWord), "service TD", tables.Or(r.serviceTDs), "any: the TD can be migrated, and has none bound")
	}
	for _, d := range seen {
		wantDigest(found, "service TD", r.serviceTDs, d)
	}
	return true
}

// allows reports whether no bit is set that is not named.
func (r tdRules) allows(bits uint64) bool {
	for bit := range 64 {
		name := attributes[bit]
		if bits>>bit&1 == 1 && !slices.Contains(r.attributes, name) && (r.given || !slices.Contains(freeAttributes, name)) {
			return false
		}
	}
	return r.given || bits>>28&1 == 1
}

func attributeNamesOf(bits uint64) (set []string) {
	for bit := range 64 {
		if bits>>bit&1 == 0 {
			continue
		}
		name := attributes[bit]
		if name == "" {
			name = fmt.Sprintf("reserved bit %d", bit)
		}
		set = append(set, name)
	}
	return set
}

func attributeWords(bits uint64) string {
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], bits)
	if bits == 0 {
		return hex.EncodeToString(raw[:]) + " (none)"
	}
	return fmt.Sprintf("%x (%s)", raw, names(attributeNamesOf(bits)))
}

// Odd are the bits of TDATTRIBUTES where they are not those that a policy allows by
// itself; nil where they are. reserved says that some have no name: nothing allows them.
func (td TD) Odd() (names []string, reserved bool) {
	bits := binary.LittleEndian.Uint64(td.Attributes[:])
	if defaultTD.allows(bits) {
		return nil, false
	}
	names = []string{}
	for _, name := range attributeNamesOf(bits) {
		if slices.Contains(attributeNames(), name) {
			names = append(names, name)
		} else {
			reserved = true
		}
	}
	return names, reserved
}

// Features are those of XFAM, of all of these, as a policy writes them; "" where a policy
// allows them by itself.
func Features(of []TD) string {
	all := uint64(defaultXFAM)
	for _, td := range of {
		all |= binary.LittleEndian.Uint64(td.XFAM[:])
	}
	if all == defaultXFAM {
		return ""
	}
	return strconv.FormatUint(all, 16)
}

// ServiceTDs are the values of service_tds that the TD needs.
func (td TD) ServiceTDs() (needed []string) {
	var found wanted.Findings
	bits := binary.LittleEndian.Uint64(td.Attributes[:])
	defaultTD.serviceTD(&found, td, bits)
	for _, f := range found {
		if f.What == "service TD" && f.Got != ValueWord(hw.Digest{}) {
			if digest384(f.Got) != "" {
				f.Got = anyWord
			}
			needed = append(needed, f.Got)
		}
	}
	return needed
}
