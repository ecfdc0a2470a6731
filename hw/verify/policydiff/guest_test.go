package policydiff

import (
	"strings"
	"testing"
)

// TestGuestsAreCompared: what a change of [snp] and [measured.NAME] trusts.
func TestGuestsAreCompared(t *testing.T) {
	a, b := strings.Repeat("a", 96), strings.Repeat("b", 96)
	base := "cima_policy = 2\n[snp]\nplatform = [\"ecc\"]\nmin_tcb.milan = { bl = 4, tee = 0, snp = 24, ucode = 219 }\n" +
		"[measured.m]\nmeasurement = [\"" + a + "\"]\ncovers = \"firmware\"\n[[boot]]\nname = \"b\"\nmeasured = \"m\"\n"
	for name, c := range map[string]struct{ old, new, want string }{
		"a lower minimum":       {"snp = 24", "snp = 22", "more [snp] min_tcb.milan.snp is 22, was 24"},
		"a higher minimum":      {"ucode = 219", "ucode = 220", "less [snp] min_tcb.milan.ucode is 220, was 219"},
		"debug":                 {"[snp]\n", "[snp]\nallow = [\"smt\", \"debug\"]\n", `more [snp] allow has "debug" now`},
		"no SMT":                {"[snp]\n", "[snp]\nallow = []\n", `less [snp] allow has "smt" no more`},
		"asked of the platform": {`["ecc"]`, `["ecc", "alias-check"]`, `less [snp] platform has "alias-check" now`},
		"asked of the host":     {"[snp]\n", "[snp]\nrequire = \"single-socket\"\n", `less [snp] require has "single-socket" now`},
		"another VMPL":          {"[snp]\n", "[snp]\nvmpl = [\"0\", \"1\"]\n", `more [snp] vmpl has "1" now`},
		"no VLEK":               {"[snp]\n", "[snp]\nsigners = \"vcek\"\n", `less [snp] signers has "vlek" no more`},
		"one provider":          {"[snp]\n", "[snp]\nproviders = \"p\"\n", `less [snp] providers must be "p" now; anything was allowed`},
		"a measurement":         {`["` + a + `"]`, `["` + a + `", "` + b + `"]`, `more [measured.m] measurement has "` + b + `" now`},
	} {
		if strings.Count(base, c.old) != 1 {
			t.Fatalf("%s: %q", name, c.old)
		}
		changes, err := Diff("a", []byte(base), "b", []byte(strings.Replace(base, c.old, c.new, 1)))
		if got := lines(changes); err != nil || got != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, c.want)
		}
	}
}
