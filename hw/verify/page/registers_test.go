package page

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/hw/verify/vtpm/vtpmtest"
)

var nonce = []byte("a nonce of 32 bytes for the page")

func rowOf(t *testing.T, rows []register, name string) register {
	t.Helper()
	for _, r := range rows {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no register %s among %d", name, len(rows))
	return register{}
}

// TestPCRs: of a VM with a TPM in its paravisor the page has each PCR with its replay, and
// the events of the boot with the PCR that each extends.
func TestPCRs(t *testing.T) {
	td := verifytest.BootWithTPM(t, vtpmtest.New())
	id := td.Launch("1", "i", "a")
	bundle := td.Evidence(id, nonce, nil)
	first := td.Appraise(bundle, nonce, nil)
	text, known := td.Policy(first)

	rows := func(bundle []byte, r *verify.Result) []register {
		s := OfBundle("b", bundle, r)
		return s.model().Registers
	}
	list := rows(bundle, first)
	if len(list) != 5+24 || list[0].Name != "MRTD" || list[0].State != unproved || !strings.Contains(list[0].Note, "paravisor") {
		t.Fatalf("registers %+v", list)
	}
	for name, want := range map[string]struct {
		state state
		note  string
	}{
		"RTMR0":  {unproved, "the paravisor's; nothing of the system is measured into it"},
		"PCR 0":  {proved, "the boot log replays to it"},
		"PCR 7":  {proved, "the boot log replays to it"},
		"PCR 9":  {proved, "the boot log replays to it"},
		"PCR 11": {proved, "nothing extended it"},
		"PCR 13": {proved, "the runtime log replays to it"},
		"PCR 16": {unproved, "any program can reset it"},
		"PCR 17": {proved, "nothing extended it"},
	} {
		if got := rowOf(t, list, name); got.State != want.state || got.Note != want.note || len(got.Held) != 64 && len(got.Held) != 96 {
			t.Errorf("%s: %+v, must be %s: %s", name, got, want.state, want.note)
		}
	}
	if trusted := td.Appraise(bundle, nonce, known); trusted.Verdict != verify.Trusted || rows(bundle, trusted)[0].State != proved {
		t.Errorf("%s: %s", trusted.Verdict, trusted.Reason)
	}
	page := write(t, OfBundle("b", bundle, first))
	for _, want := range []string{"EV_EFI_PLATFORM_FIRMWARE_BLOB", "PCR 13", `<span class="r">PCR 5</span>`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}

	// Whoever signs by himself can have any log replay to any registers.
	for what, bundle := range map[string][]byte{
		"a TPM's": verifytest.BootWithTPM(t, vtpmtest.New()).HostEvidence("x.service", nonce, nil),
		"a TD's":  verifytest.Boot(t, sim.Config{}).HostEvidence("x.service", nonce, nil),
	} {
		r := td.Appraise(bundle, nonce, known)
		if r.Verdict != verify.NotAuthentic || r.Step(verify.StepQuote).Outcome != verify.Fail {
			t.Fatalf("%s, under another root: %s, %s", what, r.Verdict, r.Reason)
		}
		for _, row := range rows(bundle, r) {
			if row.State == proved {
				t.Errorf("%s, under another root: %+v", what, row)
			}
		}
	}

	for _, c := range []struct {
		pcr   int
		p     *policy.Policy
		state state
		note  string
	}{
		{4, nil, failed, notReplays}, {13, nil, failed, notReplays}, {11, nil, unproved, "it holds more than the boot log has, or something else"},
		{11, known, failed, "the policy wants another value"},
	} {
		tpm := vtpmtest.New()
		td := verifytest.BootWithTPM(t, tpm)
		id := td.Launch("1", "i", "a")
		tpm.Extend(c.pcr, [32]byte{1})
		bundle := td.Evidence(id, nonce, nil)
		got := rowOf(t, rows(bundle, td.Appraise(bundle, nonce, c.p)), fmt.Sprintf("PCR %d", c.pcr))
		if got.State != c.state || got.Note != c.note {
			t.Errorf("%d was extended: %+v, must be %s: %s, by\n%s", c.pcr, got, c.state, c.note, text)
		}
	}
}

// TestBootDiffers: where no boot of the policy fits, the page has each register that differs
// beside what was expected, and none that an event's words make up.
func TestBootDiffers(t *testing.T) {
	td := verifytest.Boot(t, sim.Config{})
	bundle := td.Evidence(td.Launch("1", "i", "a"), nonce, nil)
	text, _ := td.Policy(td.Appraise(bundle, nonce, nil))
	at := strings.Index(string(text), `mrtd = "`)
	if at < 0 {
		at = strings.Index(string(text), `mrtd = ["`) + 1
	}
	at += len(`mrtd = "`)
	other := string(text[:at]) + strings.Repeat("1", 96) + string(text[at+96:])
	p, err := policy.Parse("p", []byte(other))
	if err != nil {
		t.Fatal(err)
	}
	r := td.Appraise(bundle, nonce, p)
	m := OfBundle("b", bundle, r).model()
	if len(m.Differ) != 1 || m.Differ[0].What != "MRTD" || m.Differ[0].Want != strings.Repeat("1", 96) || m.Differ[0].Got != r.Registers.MRTD.String() || m.Registers[0].State != failed {
		t.Errorf("%s: differences %+v, %+v", r.Reason, m.Differ, m.Registers[0])
	}

	if n := strings.Count(fmt.Sprint(m.Registers), string(failed)); n != 1 {
		t.Errorf("%d registers failed: %+v", n, m.Registers)
	}

	made := &verify.Result{Steps: []verify.Step{{Name: verify.StepBootValues, Outcome: verify.Fail,
		Detail: `not as in the nearest known boot, "a; MRTD is 1, want 2": RTMR0 is 3, want 4; event 1 of RTMR1 is x; MRTD is 5, want 6; RTMR2 is 7, want 8`}}}
	if got := bootDiffers(made); len(got) != 1 || got[0] != (verify.Comparison{What: "RTMR0", Want: "4", Got: "3"}) {
		t.Errorf("differences %+v", got)
	}
}

// FuzzPage: whatever evidence is, there is a page of it.
func FuzzPage(f *testing.F) {
	for _, td := range []*verifytest.TD{verifytest.Boot(f, sim.Config{}), verifytest.BootWithTPM(f, vtpmtest.New())} {
		f.Add(td.HostEvidence("x.service", nonce, nil))
	}
	f.Fuzz(func(t *testing.T, bundle []byte) {
		r, err := verify.Appraise(t.Context(), bundle, verify.Options{Nonce: nonce})
		if err != nil {
			t.Fatal(err)
		}
		if err := OfBundle("b", bundle, r).Write(io.Discard); err != nil {
			t.Error(err)
		}
	})
}
