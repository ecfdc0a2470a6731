package config

import (
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[[system]]\nunit = \"ssh.service\"\n":                          "",
		"[[system]]\npath = \"/usr/bin/dockerd\"\n":                     "",
		"[[system]]\narguments = true\n":                                "either a unit or a path",
		"[[system]]\nunit = \"a\"\npath = \"/b\"\n":                     "either a unit or a path",
		"[[system]]\npath = \"usr/bin/x\"\n":                            "absolute",
		"[[system]]\nunit = \"[\"\n":                                    "brackets must be closed",
		"[ima]\nmode = \"x\"\n":                                         "ima.mode",
		"isolation = \"x\"\n":                                           "isolation",
		"[limits]\nrequests_per_second = 0.0\n":                         "above zero",
		"[[access]]\nunit = \"x.service\"\nallow = [\"GetStatus\"]\n":   "must be a method",
		"[[access]]\nunit = \"x.service\"\nallow = [\"WhoAmI\"]\nx=1\n": "has no key",
	} {
		_, err := Parse(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"a limit", "[limits]\nline = 4096\n", ""},
		{"unknown key", "# c\nanchor = \"rtmr3\"\n\n[limits]\nlines = 1\n", `cimad.toml:5: [limits] has no key "lines": did you mean "line"?`},
		{"unknown table", "\n[limit]\nline = 1\n", `cimad.toml:2: the file has no key "limit": did you mean "limits"?`},
		{"wrong type", "[limits]\nline = \"x\"\n", "cimad.toml:2: [limits]: line must be a whole number"},
		{"not TOML", "anchor = \n", "cimad.toml:1: "},
		{"wrong anchor", `anchor = "pcrs"`, "anchor"},
		{"out of range", "[limits]\nline = 0\n", "limits.line"},
		{"no finite number", "[limits]\nrequests_per_second = inf\n", "limits.requests_per_second"},
		{"no number", "[limits]\nquotes_per_minute = nan\n", "limits.quotes_per_minute"},
		{"no quotes", "[limits]\nquotes_per_minute = 0.0\n", "limits.quotes_per_minute"},
		{"bad duration", "[limits]\nidle = \"-1s\"\n", "duration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAccessRulesAreChecked(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"[[access]]\nimage = \"app:*\"\nallow = [\"ExtendMeasurement\"]\n", ""},
		{"[[access]]\nallow = [\"Nothing\"]\n", `"Nothing" must be a method`},
		{"[[access]]\nimage = \"x\"\n", "allow or deny"},
		{"[[access]]\nimage = \"[\"\nallow = [\"WhoAmI\"]\n", "brackets must be closed"},
		{"[[access]]\nlabel = \"a=b\"\nallow = [\"WhoAmI\"]\n", "launch.labels"},
		{"[launch]\nlabels = [\"a\"]\n[[access]]\nlabel = \"a=b\"\nallow = [\"WhoAmI\"]\n", ""},
	} {
		_, err := Parse(tt.text)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}
