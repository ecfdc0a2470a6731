package config

import (
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[[system]]\nunit = \"ssh.service\"\n":                  "",
		"[[system]]\npath = \"/usr/bin/dockerd\"\n":             "",
		"[[system]]\narguments = true\n":                        "either a unit or a path",
		"[[system]]\nunit = \"a\"\npath = \"/b\"\n":             "either a unit or a path",
		"[[system]]\npath = \"usr/bin/x\"\n":                    "absolute",
		"[[system]]\nunit = \"[\"\n":                            "syntax error",
		"[ima]\nmode = \"x\"\n":                                 "ima.mode",
		"isolation = \"x\"\n":                                   "isolation",
		"[limits]\nrequests_per_second = 0.0\n":                 "above zero",
		"[[access]]\nunit = \"x\"\nallow = [\"GetStatus\"]\n":   "must be a method",
		"[[access]]\nunit = \"x\"\nallow = [\"WhoAmI\"]\nx=1\n": "unknown key",
	} {
		_, err := Parse(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
