package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every fault of a file has its line, and says what must be in words of TOML.
func TestFaultsHaveLines(t *testing.T) {
	for text, want := range map[string]string{
		"\nanchor = 3\n":                                                         `cimad.toml:2: the file: anchor must be text in quotes`,
		"\n\nanchor = \"rtmr\"\n":                                                `cimad.toml:3: anchor = "rtmr": must be "rtmr3", "pcr" or "report-data": did you mean "rtmr3"?`,
		"[limits]\nidle = 10\n":                                                  `cimad.toml:2: [limits]: idle must be a duration above zero in quotes, as "10s" or "1m30s"`,
		"[limits]\nidle = \"-1s\"\n":                                             `cimad.toml:2: [limits]: idle must be a duration above zero`,
		"[limits]\n\nlog_bytes = 1.5\n":                                          `cimad.toml:3: [limits]: log_bytes must be a whole number`,
		"[limits]\nrequests_per_second = \"fast\"\n":                             `cimad.toml:2: [limits]: requests_per_second must be a number`,
		"[limits]\nline = 1\n":                                                   `cimad.toml:2: limits.line = 1: must be 1024 to 16777216`,
		"[launch]\nlabels = \"a\"\n":                                             `cimad.toml:2: [launch]: labels must be a list of texts, as ["one", "two"]`,
		"[launch]\nlabels = [1]\n":                                               `cimad.toml:2: [launch]: labels must be a list of texts`,
		"[launch]\npublic = [\n  \"A\",\n  \"B=\",\n]\n":                         `cimad.toml:4: launch.public: "B="`,
		"[launch]\ndata = [\"/srv\",\n\"/etc\"]\n":                               `cimad.toml:3: launch.data: "/etc" is a part of the system`,
		"launch = 1\n":                                                           `cimad.toml:1: the file: launch must be a table, [launch]`,
		"access = 1\n":                                                           `cimad.toml:1: the file: access must be tables, [[access]]`,
		"[[system]]\nunit = \"sshd.service\"\narguments = \"no\"\n":              `cimad.toml:3: [[system]] 1: arguments must be true or false`,
		"[[system]]\nunit = \"a.service\"\n[[system]]\n":                         `cimad.toml:3: a [[system]] rule must name either a unit or a path`,
		"[[system]]\nunit = \"sshd\"\n":                                          `cimad.toml:2: system: unit = "sshd": must end in .service, .scope, .socket, .mount, .swap: "sshd.service"`,
		"[[access]]\nunit = \"sshd\"\ndeny = [\"WhoAmI\"]\n":                     `cimad.toml:2: access: unit = "sshd": must end in .service`,
		"[[access]]\nallow = [\"WhoAmI\",\n\"GetEvidense\"]\n":                   `cimad.toml:3: access: "GetEvidense" must be a method of cima-api(7): did you mean "GetEvidence"?`,
		"[[access]]\nimage = \"a\"\nunit = \"b.service\"\ndeny = [\"WhoAmI\"]\n": `cimad.toml:1: an [[access]] rule with a unit and an image, a label or a pod matches nobody`,
		"[[access]]\npod = \"a\"\nunit = \"b.service\"\ndeny = [\"WhoAmI\"]\n":   `cimad.toml:1: an [[access]] rule with a unit and an image, a label or a pod matches nobody`,
		"[[access]]\nnamespace = \"[\"\ndeny = [\"WhoAmI\"]\n":                   `cimad.toml:2: access: namespace = "[": must be a pattern`,
		"[[access]]\npod = \"[\"\ndeny = [\"WhoAmI\"]\n":                         `cimad.toml:2: access: pod = "[": must be a pattern`,
		"[engines]\ndocker = \"unix:///run/docker.sock\"\n":                      `cimad.toml:2: engines.docker = "unix:///run/docker.sock": must be the path alone, "/run/docker.sock"`,
		"[engines]\npodman = \"tcp://1.2.3.4:1\"\n":                              `cimad.toml:2: engines.podman = "tcp://1.2.3.4:1": must be the path of a Unix socket`,
		"[engines]\npodman = \"run/podman.sock\"\n":                              `cimad.toml:2: engines.podman = "run/podman.sock": must be an absolute path`,
		"[engines]\ndocker_exec_root = \"\"\n":                                   `cimad.toml:2: engines.docker_exec_root = "": must be an absolute path`,
		"[gate]\nruntimes = [\"/usr/bin/kata\",\n  \"runsc\"]\n":                 `cimad.toml:3: gate.runtimes: "runsc" must be an absolute path`,
		"[gate]\nmode = \"off\"\n[exec]\nmode = \"measure\"\n":                   `cimad.toml:4: exec.mode = "measure" does nothing with gate.mode = "off": gate.mode must be "on" or "enforce", or exec.source "ima"`,
		"[gate]\nmode = \"off\"\nruntimes = [\"/usr/bin/kata\"]\n":               `cimad.toml:3: gate.runtimes does nothing with gate.mode = "off": it must be left out`,
		"[gate]\nmode = \"off\"\ndeadline = \"3s\"\n":                            `cimad.toml:3: gate.deadline does nothing`,
		"[exec]\ndeadline = \"3s\"\n":                                            `cimad.toml:2: exec.deadline does nothing with exec.mode = "off"`,
		"[exec]\nmax_size = 1048577\n":                                           `cimad.toml:2: exec.max_size does nothing with exec.mode = "off"`,
		"[exec]\nsource = \"ima\"\n":                                             `cimad.toml:2: exec.source does nothing with exec.mode = "off"`,
		"[exec]\nmode = \"measure\"\nsource = \"ima\"\ndeadline = \"3s\"\n":      `cimad.toml:4: exec.deadline does nothing with exec.source = "ima"`,
		"[ima]\nmode = \"off\"\ninterval = \"3s\"\n":                             `cimad.toml:3: ima.interval does nothing with ima.mode = "off"`,
		"a = " + strings.Repeat("[", 100):                                        `cimad.toml:1: `,
		strings.Repeat("#", maxFile+1):                                           `cimad.toml:1: the file must have at most 1048576 bytes`,
	} {
		_, err := Parse(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.99q:\n%v, want\n%s", text, err, want)
		}
		if err != nil && regexp.MustCompile(`incompatible|destination|\[\]string|int64|float64|\binteger\b|reflect|interface|toml: `).MatchString(err.Error()) {
			t.Errorf("%.99q: %v is said in words of Go", text, err)
		}
	}
	// All are told at once, in the order of their lines.
	_, err := Parse("x = 1\n[limits]\nline = \"x\"\nidle = 1\n")
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.HasPrefix(err.Error(), "cimad.toml:1: ") {
		t.Errorf("%v", err)
	}
}

// What does something is taken, also beside what is off.
func TestWhatDoesSomething(t *testing.T) {
	for _, text := range []string{
		"[exec]\nmode = \"off\"\nsource = \"gate\"\ndeadline = \"5s\"\nmax_size = 268435456\n", // the defaults, written down
		"[gate]\nmode = \"off\"\n[exec]\nmode = \"measure\"\nsource = \"ima\"\n",
		"[[system]]\nunit = \"ssh*\"\n", "[[access]]\nunit = \"user@100?.service\"\ndeny = [\"WhoAmI\"]\n",
		"[engines]\ndocker = \"\"\npodman = \"\"\n", "[limits]\nrequests_per_second = 5\n",
	} {
		if _, err := Parse(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPrint(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.toml")
	text := "isolation = \"none\"\n[limits]\n\nidle = \"90s\"\n[[access]]\nimage = \"a\\\"\\u0007*\"\ndeny = [\"GetEvidence\"]\n[[access]]\nallow = [\"ExtendMeasurement\"]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	printed, err := Print(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# " + digest.String() + "\n", "\nanchor = \"rtmr3\"  # default\n", "\nisolation = \"none\"  # line 1\n", "\n[limits]  # line 2\n",
		"\nidle = \"1m30s\"  # line 4\n", "\nlabels = []  # default\n", "\n[[access]]  # line 5\n", "\ndeny = [\"GetEvidence\"]  # line 7\n", "\n[[access]]  # line 8\n",
		"\nquotes_per_minute = 60.0  # default\n", "\n[engines]\n",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q is missing in\n%s", want, printed)
		}
	}
	same(t, printed, c)

	missing, err := Print(filepath.Join(dir, "none.toml"))
	if err != nil || !strings.Contains(missing, ", which is not there.") || strings.Contains(missing, "# line") {
		t.Errorf("%v in\n%s", err, missing)
	}
	same(t, missing, Default())
	if _, err := Print(dir); err == nil {
		t.Error("a directory was read")
	}
}

// same checks that what is printed gives the configuration again.
func same(t *testing.T, printed string, c Config) {
	t.Helper()
	again, err := Parse(printed)
	if err != nil {
		t.Fatalf("%v in\n%s", err, printed)
	}
	was, err1 := c.Digest()
	is, err2 := again.Digest()
	if err1 != nil || err2 != nil || was != is {
		t.Errorf("%v %v: %+v became %+v", err1, err2, c, again)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("isolation = \"none\"\n[limits]\nidle = \"90s\"\n")
	f.Add("[[access]]\nimage = \"x*\"\nallow = [\"ExtendMeasurement\"]\n[[system]]\nunit = \"a.service\"\narguments = true\n")
	f.Add("[launch]\nlabels = [\"a\"]\npublic = [\"\\u0001\"]\n[exec]\nmode = \"measure\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := read("cimad.toml", text)
		if err != nil {
			if !regexp.MustCompile(`^cimad.toml:[0-9]+: `).MatchString(err.Error()) {
				t.Fatalf("%q: %v has no line", text, err)
			}
			return
		}
		printed, err := r.text("cimad.toml")
		if err != nil {
			t.Fatal(err)
		}
		same(t, printed, r.config)
	})
}
