package guest

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/snp/snptest"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

func rules(t *testing.T, text string) (*Rules, error) {
	t.Helper()
	all, err := tables.Read("policy", []byte("[snp]\n"+text), 1<<16)
	if err != nil {
		return nil, err
	}
	one, _ := all.One("snp")
	r := Read(one, 0)
	one.Done()
	return r, all.Errors()
}

// report is one of a chip, changed before it is signed.
func report(t *testing.T, c *snptest.Chip, change ...func(raw []byte)) *snp.Attestation {
	t.Helper()
	a, err := snp.Parse(c.Report(t, [64]byte{}, change...), c.Certificates())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wrong are the names of what is not as wanted.
func wrong(found wanted.Findings) (names []string) {
	for _, f := range found {
		if !f.OK {
			names = append(names, f.What)
		}
	}
	return names
}

// TestJudge: each key of [snp] refuses what it does not name, and takes what it names.
func TestJudge(t *testing.T) {
	policyBit := func(n int) func([]byte) {
		return func(raw []byte) {
			binary.LittleEndian.PutUint64(raw[8:], binary.LittleEndian.Uint64(raw[8:])|1<<n)
		}
	}
	milan, vlek := snptest.New(t, "Milan", false), snptest.New(t, "Milan", true)
	digest := func(n byte, size int) string { return strings.Repeat(string("0123456789abcdef"[n])+"1", size) }
	chip := func(c *snptest.Chip) string { return word(c.HardwareID[:]) }
	for name, c := range map[string]struct {
		chip   *snptest.Chip
		change func(raw []byte)
		rules  string
		want   []string
	}{
		"the usual":                    {milan, nil, "", nil},
		"a VLEK":                       {vlek, nil, "", nil},
		"SMT refused":                  {milan, nil, "allow = []", []string{"POLICY"}},
		"CXL":                          {milan, policyBit(21), "", []string{"POLICY"}},
		"CXL allowed":                  {milan, policyBit(21), `allow = ["smt", "cxl"]`, nil},
		"a demand is free":             {milan, policyBit(20), "", nil},
		"a demand wanted":              {milan, nil, `require = "single-socket"`, []string{"POLICY, single-socket"}},
		"a demand met":                 {milan, policyBit(25), `require = "page-swap-off"`, nil},
		"reserved, 26":                 {milan, policyBit(26), `allow = ["smt", "debug", "migrate-ma", "cxl"]`, []string{"POLICY"}},
		"reserved, 63":                 {milan, policyBit(63), "", []string{"POLICY"}},
		"bit 17 must be set":           {milan, func(raw []byte) { raw[0x00A] = 1 }, "", []string{"POLICY"}},
		"the ABI's version":            {milan, func(raw []byte) { raw[8], raw[9] = 0x1F, 1 }, "", nil},
		"aliases":                      {milan, nil, `platform = "alias-check"`, nil},
		"no ciphertext hiding":         {milan, nil, `platform = ["ecc", "ciphertext-hiding"]`, []string{"PLATFORM_INFO, ciphertext-hiding"}},
		"VMPL 1":                       {milan, func(raw []byte) { raw[0x30] = 1 }, "", []string{"VMPL"}},
		"VMPL 1 allowed":               {milan, func(raw []byte) { raw[0x30] = 1 }, `vmpl = ["0", "1"]`, nil},
		"VMPL 0 not allowed":           {milan, nil, `vmpl = "2"`, []string{"VMPL"}},
		"host data":                    {milan, func(raw []byte) { raw[0xC0] = 1 }, "", []string{"HOST_DATA"}},
		"any host data":                {milan, func(raw []byte) { raw[0xC0] = 1 }, `host_data = "any"`, nil},
		"no host data, and it must be": {milan, nil, `host_data = "` + digest(1, 32) + `"`, []string{"HOST_DATA"}},
		"an id key":                    {milan, func(raw []byte) { raw[0xE0] = 1 }, "", nil},
		"an id key, unknown":           {milan, func(raw []byte) { raw[0xE0] = 1 }, `id_keys = "zero"`, []string{"ID_KEY_DIGEST"}},
		"no id key":                    {milan, nil, `id_keys = "` + digest(2, 48) + `"`, []string{"ID_KEY_DIGEST"}},
		"an author's":                  {milan, func(raw []byte) { raw[0x48], raw[0x110] = 1, 1 }, `author_keys = "zero"`, []string{"AUTHOR_KEY_DIGEST"}},
		"an old guest":                 {milan, func(raw []byte) { raw[0xE0], raw[4] = 0x11, 4 }, `id_keys = "11` + strings.Repeat("0", 94) + "\"\nmin_guest_svn = 5", []string{"GUEST_SVN"}},
		"a guest new enough":           {milan, func(raw []byte) { raw[0xE0], raw[4] = 0x11, 5 }, `id_keys = "11` + strings.Repeat("0", 94) + "\"\nmin_guest_svn = 5", nil},
		"a VLEK refused":               {vlek, nil, `signers = "vcek"`, []string{"key that signs"}},
		"a VCEK refused":               {milan, nil, `signers = "vlek"`, []string{"key that signs"}},
		"my chip":                      {milan, nil, `chips = "` + chip(milan) + `"`, nil},
		"another chip":                 {milan, nil, `chips = "` + digest(3, 64) + `"`, []string{"CHIP_ID"}},
		"a masked chip":                {milan, func(raw []byte) { clear(raw[0x1A0:0x1E0]) }, `chips = "` + chip(milan) + `"`, []string{"CHIP_ID"}},
		"my provider":                  {vlek, nil, `providers = "CN=cc-test.example"`, nil},
		"another provider":             {vlek, nil, `providers = "CN=cc-us-east-2.amazonaws.com"`, []string{"provider of the VLEK"}},
		"a provider's, by a VCEK":      {milan, nil, `providers = "CN=cc-test.example"`, []string{"provider of the VLEK"}},
	} {
		r, err := rules(t, c.rules)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var change []func([]byte)
		if c.change != nil {
			change = append(change, c.change)
		}
		if got := wrong(r.Judge(report(t, c.chip, change...))); !slices.Equal(got, c.want) {
			t.Errorf("%s: wrong %q, must be %q", name, got, c.want)
		}
	}
	var none *Rules
	if got := wrong(none.Judge(report(t, milan))); got != nil {
		t.Errorf("without rules: %q", got)
	}
}

func TestJudgeOpen(t *testing.T) {
	milan := snptest.New(t, "Milan", false)
	for name, c := range map[string]struct {
		change func(raw []byte)
		rules  string
		wrong  int
		open   int
	}{
		"closed":                {func([]byte) {}, "", 0, 0},
		"debug":                 {func(raw []byte) { raw[0x0A] |= 8 }, "", 1, 1},
		"debug allowed":         {func(raw []byte) { raw[0x0A] |= 8 }, `allow = ["smt", "debug"]`, 0, 1},
		"migration":             {func(raw []byte) { raw[0x0A] |= 4 }, "", 1, 1},
		"an agent":              {func(raw []byte) { raw[0x17F] = 0xFE }, "", 1, 1},
		"an agent's zeros":      {func(raw []byte) { clear(raw[0x160:0x180]) }, "", 1, 1},
		"an agent is allowed":   {func(raw []byte) { raw[0x17F] = 0xFE }, `allow = ["migrate-ma"]`, 0, 1},
		"both, and one allowed": {func(raw []byte) { raw[0x0A] |= 12 }, `allow = ["debug"]`, 1, 2},
	} {
		r, err := rules(t, c.rules)
		if err != nil {
			t.Fatal(err)
		}
		found, open := r.JudgeOpen(report(t, milan, c.change).Report)
		if len(wrong(found)) != c.wrong || len(open) != c.open {
			t.Errorf("%s: wrong %q, open %q", name, wrong(found), open)
		}
	}
}

// TestJudgeLevel: each part of each TCB counts by itself, in the order of its line.
func TestJudgeLevel(t *testing.T) {
	const text = "min_tcb.milan = { bl = 4, tee = 0, snp = 24, ucode = 219 }\nmin_tcb.turin = { fmc = 1, bl = 2, tee = 3, snp = 4, ucode = 200 }"
	r, err := rules(t, text)
	if err != nil {
		t.Fatal(err)
	}
	milan, turin := snptest.New(t, "Milan", false), snptest.New(t, "Turin", false)
	for name, c := range map[string]struct {
		chip   *snptest.Chip
		change func(raw []byte)
		line   snp.Line
		want   []string
	}{
		"as wanted":         {milan, func([]byte) {}, snp.Milan, nil},
		"newer":             {milan, func(raw []byte) { raw[0x3E]++; raw[0x1E7]++ }, snp.Milan, nil},
		"current, snp":      {milan, func(raw []byte) { raw[0x3E]-- }, snp.Milan, []string{"CURRENT_TCB, snp"}},
		"committed, ucode":  {milan, func(raw []byte) { raw[0x1E7]--; raw[0x1E6] = 255 }, snp.Milan, []string{"COMMITTED_TCB, ucode"}},
		"launch, bl":        {milan, func(raw []byte) { raw[0x1F0]-- }, snp.Milan, []string{"LAUNCH_TCB, bl"}},
		"reported":          {milan, func(raw []byte) { raw[0x180]-- }, snp.Milan, []string{"REPORTED_TCB, bl"}},
		"Turin":             {turin, func([]byte) {}, snp.Turin, nil},
		"Turin's FMC":       {turin, func(raw []byte) { raw[0x180]-- }, snp.Turin, []string{"REPORTED_TCB, fmc"}},
		"Turin's snp":       {turin, func(raw []byte) { raw[0x183]-- }, snp.Turin, []string{"REPORTED_TCB, snp"}},
		"a line not named":  {milan, func([]byte) {}, snp.Genoa, []string{"line of the processor"}},
		"a line of nowhere": {milan, func([]byte) {}, "", []string{"line of the processor"}},
	} {
		found, asked := r.JudgeLevel(report(t, c.chip, c.change).Report, c.line)
		if got := wrong(found); !asked || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, wrong %q, must be %q", name, asked, got, c.want)
		}
	}
	r, _ = rules(t, "")
	if _, asked := r.JudgeLevel(report(t, milan).Report, snp.Milan); asked {
		t.Error("without min_tcb, something is asked")
	}
}

// TestRefused: what a policy can't mean.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		`allow = "single-socket"`: "must be a bit of smt, migrate-ma, debug, cxl",
		`require = "debug"`:       "must be a bit of single-socket",
		`platform = "snp"`:        "must be a bit of smt",
		`vmpl = 0`:                "must be a list of texts",
		`vmpl = "4"`:              "must be a number of 0, 1, 2, 3",
		`host_data = "00"`:        "must be 64 lower-case hex digits",
		`host_data = "` + strings.Repeat("0", 64) + `"`: "that are not all zeros",
		`id_keys = "any"`:   "must be 96 lower-case hex digits",
		`chips = "zero"`:    "must be 128 lower-case hex digits",
		`signers = "ark"`:   "must be a key of vcek, vlek",
		`min_guest_svn = 5`: "there with id_keys alone",
		`min_tcb = 4`:       "must be a table",
		`min_tcb = {}`:      "a minimum for one line or more",
		`min_tcb.siena = { bl = 1, tee = 1, snp = 1, ucode = 1 }`:          `has no key "siena"`,
		`min_tcb.milan = { bl = 1, tee = 1, snp = 1 }`:                     "ucode must be there",
		`min_tcb.milan = { fmc = 1, bl = 1, tee = 1, snp = 1, ucode = 1 }`: `has no key "fmc"`,
		`min_tcb.turin = { bl = 1, tee = 1, snp = 1, ucode = 1 }`:          "fmc must be there",
		`min_tcb.genoa = { bl = 1, tee = 1, snp = 1, ucode = 256 }`:        "ucode must be 0 to 255",
		`min_tcb.turin = { fmc = 0, bl = 0, tee = 0, snp = 0, ucode = 0 }`: "min_tcb.turin must be above 0 in a part",
		`min_tcb.genoa = { bl = "1", tee = 1, snp = 1, ucode = 25 }`:       "bl must be a number",
		`measurement = "` + strings.Repeat("1", 96) + `"`:                  `has no key "measurement"`,
		`providers = ""`: "must be text",
		"min_guest_svn = 2\nid_keys = [\"zero\"]":                             "there with id_keys alone",
		"min_guest_svn = -2\nid_keys = [\"" + strings.Repeat("1", 96) + "\"]": "a number from 0 on",
	} {
		if _, err := rules(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, must say %q", text, err, want)
		}
	}
}

func TestUnusual(t *testing.T) {
	milan := snptest.New(t, "Milan", false)
	if keys, _ := Unusual(report(t, milan).Report); keys != nil {
		t.Errorf("%q", keys)
	}
	a := report(t, milan, func(raw []byte) {
		raw[0x0A], raw[0x30], raw[0xC0], raw[0xE0], raw[0x48], raw[0x110] = 11, 1, 1, 1, 1, 1
	})
	keys, values := Unusual(a.Report)
	if !slices.Equal(keys, []string{"allow", "vmpl", "host_data", "id_keys", "author_keys"}) || !slices.Equal(values["allow"], []string{"smt", "debug"}) {
		t.Errorf("%q, %q", keys, values)
	}
	if told := (*Rules)(nil).Told(report(t, milan, func(raw []byte) { raw[0x40], raw[0x41] = 0, 1 }).Report); len(told) != 2 || !strings.Contains(told[1], "bit 8") {
		t.Errorf("%q", told)
	}
}
