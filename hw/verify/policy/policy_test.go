package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func example(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("p.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExamples(t *testing.T) {
	for _, name := range []string{"app.toml", "platform.toml", "bank.toml"} {
		if _, err := Load(filepath.Join("testdata", name)); err != nil {
			t.Error(err)
		}
	}
}

// Each slip of the pen has its file, its line and, where one is near, a proposal.
func TestErrors(t *testing.T) {
	app := example(t, "app.toml")
	for _, c := range []struct{ old, new, want string }{
		{"image = \"shop\"", "imgae = \"shop\"", `p.toml:37: [[container]] 1 has no key "imgae": did you mean "image"?`},
		{"image = \"shop\"", "image = \"shpo\"", `p.toml:37: container "shop": there is no [image.shpo]: did you mean "shop"?`},
		{"image = \"shop\"", "IMAGE = \"shop\"", `p.toml:37: [[container]] 1 has no key "IMAGE"`},
		{"image = \"shop\"", "image = shop", `p.toml:37: expected value but found "shop" instead: text must be in quotes`},
		{"image = \"shop\"", "image = /shop", `p.toml:37: expected value but found '/' instead: text must be in quotes`},
		{"image = \"shop\"", "any = true", `p.toml:32: nothing uses [image.shop]`},
		{"image = \"shop\"", "any = true\nimage = \"shop\"", `p.toml:37: [[container]] 1: any must be left out`},
		{"image = \"shop\"", "", `[[container]] 1 must have image or launch, or any = true`},
		{"until = 2027-03-01", "until = \"2027-03-01\"", `p.toml:4: the file: until must be a day`},
		{"until = 2027-03-01", "until = 2027-3-1", `p.toml:4: `},
		{"until = 2027-03-01", "until = 2027-03-01\nfrom = 2027-03-02", `until must be after from`},
		{"[\"firmware-varies\"]", "[\"firmware-vary\"]", `p.toml:6: the file: waive: "firmware-vary" must be a code of `},
		{"[\"firmware-varies\"]", "[\"volumes\"]", `must be codes that stand in the way of trust: "volumes" doesn't`},
		{"deny = [", "denny = [", `p.toml:9: [tcb] has no key "denny": did you mean "deny"?`},
		{"INTEL-SA-01397", "SA-01397", `p.toml:9: [tcb]: deny: "SA-01397" must be as "INTEL-SA-00615"`},
		{"root = \"verity\"", "", `[system.cos-125]: root must be there, and say`},
		{"root = \"verity\"", "root = \"yes\"", `p.toml:22: [system.cos-125]: root must be there, and say how the root file system is covered: a word of verity, initrd, composefs, ima, not covered`},
		{"root=/dev/dm-0", "root=PARTUUID=1", `p.toml:22: [system.cos-125]: root = "verity", and the line doesn't cover it so: root=PARTUUID=1`},
		{"init=/usr", "x\\ninit=/usr", `p.toml:17: [system.cos-125]: line: a newline is in the line`},
		{"host_input = \"none\"", "", `host_input must be there`},
		{"host_input = \"none\"", "host_input = [\"none\", \"aml\"]", `must be "none", or a list without it`},
		{"host_input = \"none\"", "host_input = \"fwcfg\"", `did you mean "fw_cfg"?`},
		{"rtmr1 = \"b1", "rtmr1 = \"B1", `p.toml:24: [system.cos-125]: rtmr1 must be there: a value`},
		{"rtmr1 = \"" + strings.Repeat("b1", 48), "rtmr1 = \"" + strings.Repeat("00", 48), `p.toml:24: `},
		{"rtmr2 = \"" + strings.Repeat("b2", 48) + "\"", "rtmr2 = [\"" + strings.Repeat("b2", 48) + "\"]", `line must be the text of an event in rtmr2`},
		{"\"*hob\", ", "\"*hob…\", \"*acpi\", ", `p.toml:14: [firmware.gcp]: rtmr0 must be a sequence in which a digest stands behind *hob…`},
		{"rtmr0 = [", "rtmr0 = [\"*x\"]\nrtmr1 = [", `rtmr0 must be a sequence with a digest`},
		{"mrtd = ", "mrdt = ", `p.toml:13: [firmware.gcp] has no key "mrdt": did you mean "mrtd"?`},
		{"firmware = \"gcp\"", "firmware = \"gpc\"", `p.toml:29: boot "cos-125 on gcp": there is no [firmware.gpc]: did you mean "gcp"?`},
		{"sha256:11", "sha256:1", `p.toml:33: [image.shop]: digests: "sha256:1`},
		{"user.uid", "user.udi", `p.toml:40: [[container]] 1: match has no member "asked.user.udi": did you mean "uid"?`},
		{"[container.match.asked]", "[container.match.askd]", `p.toml:38: [[container]] 1: match has no member "askd": did you mean "asked"?`},
		{"user.uid = 1000", "user.uid = 1.5", `p.toml:40: [[container]] 1: match.asked.user.uid must be text, a whole number`},
		{"name = \"shop\"\nimage", "image", `[[container]] 1: name must be there`},
		{"[[container]]", "[container]", `container must be tables, [[container]]`},
		{"[[container]]", "[host]\n[[container]]", `[host] must have units, or any = true`},
		{"[[container]]", "[td]\nattributes = [\"sept-ve-disabled\"]\n[[container]]", `did you mean "sept-ve-disable"?`},
		{"[[container]]", "[td]\nmrowner = \"" + strings.Repeat("00", 48) + "\"\n[[container]]", `must be the word "zero"`},
		{"[[container]]", "[[required]]\noperation = \"exce\"\n[[container]]", `did you mean "exec"?`},
		{"[[container]]", "[[forbidden]]\noperation = \"exec\"\nmatch.pth = \"/x\"\n[[container]]", `did you mean "path"?`},
		{"[[container]]", "[[revoked]]\ndigest = \"sha256:1\"\n[[container]]", `why must be there`},
		{"[[container]]", "include = [\"x\"]\n[[container]]", `[image.shop] has no key "include"`},
		{"cima_policy = 2", "cima_policy = 3", `p.toml:2: cima_policy must be 2`},
		{"cima_policy = 2", "", `hint: a policy without it is of form 1`},
	} {
		text := strings.Replace(app, c.old, c.new, 1)
		if text == app {
			t.Fatalf("%q is not in the example", c.old)
		}
		if _, err := Parse("p.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n%v\nwant %s", c.new, err, c.want)
		}
	}
}

// A policy of form 1 says what to do.
func TestFormOne(t *testing.T) {
	_, err := Parse("old.toml", []byte("[[boot]]\nmrtd = \"00\"\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "old.toml:1: cima_policy = 2 must be there; hint: ") {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"too long":        "#" + strings.Repeat("x", maxPolicy),
		"nested arrays":   "cima_policy = 2\nx = " + strings.Repeat("[", 100000),
		"nested match":    example(t, "app.toml") + "x" + strings.Repeat(".x", 100) + " = 1\n",
		"many patterns":   "cima_policy = 2\n" + strings.Repeat("[[required]]\noperation = \"seal\"\n", maxPatterns+1),
		"quoted brackets": "cima_policy = 2\nx = " + strings.Repeat("[\"]\", ", 100000),
	} {
		if _, err := Parse("p.toml", []byte(text)); err == nil || len(err.Error()) > 10000 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestRevocations(t *testing.T) {
	p := parse(t, example(t, "platform.toml"))
	file := "cima_policy = 2\nuntil = 2027-01-01\n[[revoked]]\ndigest = \"" + strings.Repeat("a2", 48) + "\"\nwhy = \"old firmware\"\n"
	if err := p.Revoke("r.toml", []byte(file)); err != nil {
		t.Fatal(err)
	}
	found := p.Revoked(func(yield func(what, digest string) bool) {
		_ = yield("MRTD", strings.Repeat("a2", 48)) && yield("image", "sha256:"+strings.Repeat("24", 32)) && yield("image", "sha256:"+strings.Repeat("21", 32))
	}, december)
	if len(found) != 2 || !strings.Contains(found[0], "old firmware") || !strings.Contains(found[1], "CVE-2026-12345") {
		t.Errorf("%q", found)
	}
	day := func(d int) time.Time { return time.Date(2026, 12, d, 0, 0, 0, 0, time.UTC) }
	if why := p.Valid(day(31)); why != "" {
		t.Error(why)
	}
	if why := p.Valid(day(32)); !strings.Contains(why, "r.toml was valid until 2027-01-01T00:00:00Z") {
		t.Errorf("%q", why)
	}
	for _, text := range []string{file + "[tcb]\n", "cima_policy = 2\n", file + "waive = [\"start-observed\"]\n", "[[revoked]]\n", example(t, "app.toml")} {
		if err := parse(t, example(t, "platform.toml")).Revoke("r.toml", []byte(text)); err == nil {
			t.Errorf("read as revocations:\n%s", text)
		}
	}
	if p.Sources[0].Name != "fleet" || p.Sources[1].File != "r.toml" || p.Sources[1].Until != day(32) {
		t.Errorf("%+v", p.Sources)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"app.toml", "platform.toml", "bank.toml"} {
		f.Add(example(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.toml", []byte(text))
		if err != nil {
			return
		}
		if _, err := p.JudgeBoot(Booted{}, time.Now()); err != nil {
			t.Error(err)
		}
		if found, err := p.JudgeBoot(Booted{}, time.Now()); err != nil || found.Known != nil {
			t.Errorf("zeros are a boot of\n%s", text)
		}
	})
}
