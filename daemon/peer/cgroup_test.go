package peer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	idA = strings.Repeat("a1", 32)
	idB = strings.Repeat("b2", 32)
	idC = strings.Repeat("c3", 32)
)

func TestParseCgroup(t *testing.T) {
	text := "12:cpu,cpuacct:/docker/" + idA + "\n" +
		"3:name=systemd:/system.slice/a:b.service\n" +
		"2:misc:/\n" +
		"0::/user.slice/user-1000.slice/session-1.scope\n"
	want := []hierarchy{
		{"cpu,cpuacct", "/docker/" + idA},
		{"name=systemd", "/system.slice/a:b.service"},
		{"misc", "/"},
		{"", "/user.slice/user-1000.slice/session-1.scope"},
	}
	got, err := parseCgroup(text)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseCgroupRefuses(t *testing.T) {
	many := ""
	for i := range maxHierarchies + 1 {
		many += fmt.Sprintf("%d:name=h%d:/\n", i+1, i)
	}
	for name, text := range map[string]string{
		"nothing":              "",
		"no end":               "0::/docker/" + idA,
		"empty line":           "0::/\n\n",
		"one colon":            "0:/\n",
		"no number":            ":cpu:/\n",
		"a sign":               "+1:cpu:/\n",
		"v2 with controllers":  "0:cpu:/\n",
		"v1 without":           "4::/\n",
		"slash in controllers": "4:c/pu:/\n",
		"relative":             "0::docker\n",
		"no path":              "0::\n",
		"outside namespace":    "0::/../docker/" + idA + "\n",
		"dots at the end":      "0::/a/..\n",
		"a dot":                "0::/a/./b\n",
		"two slashes":          "0::/a//b\n",
		"slash at the end":     "0::/a/\n",
		"deleted":              "0::/docker/" + idA + " (deleted)\n",
		"long name":            "0::/" + strings.Repeat("x", maxName+1) + "\n",
		"deep":                 "0::" + strings.Repeat("/x", maxDepth+1) + "\n",
		"twice unified":        "0::/a\n0::/b\n",
		"twice memory":         "4:memory:/a\n5:memory:/b\n",
		"many lines":           many,
		"long file":            "0::/" + strings.Repeat("x", maxCgroupFile) + "\n",
	} {
		if hs, err := parseCgroup(text); err == nil {
			t.Errorf("%s: %v, want an error", name, hs)
		}
	}
}

func TestHoldsID(t *testing.T) {
	for name, want := range map[string]bool{
		idA:                                true,
		"docker-" + idA + ".scope":         true,
		"libpod-" + idA + ".scope":         true,
		"libpod-" + idA:                    true,
		"libpod-payload-" + idA:            true,
		"cri-containerd-" + idA + ".scope": true,
		"crio-" + idA + ".scope":           true,
		"crio-" + idA:                      true,
		"nerdctl-" + idA + ".scope":        true,
		"system.slice:docker:" + idA:       true,
		"libpod-conmon-" + idA + "." + idB: true,

		"libpod-conmon-" + idA + ".scope":  false,
		"crio-conmon-" + idA + ".scope":    false,
		"":                                 false,
		idA[1:]:                            false,
		idA + "a":                          false,
		"x" + idA:                          false,
		idA + "X":                          false,
		strings.ToUpper(idA):               false,
		"65181d47e7a8489a5564a37de07fed23": false,
		"kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice": false,
	} {
		if got := holdsID(name); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}

func TestUnitOf(t *testing.T) {
	for name, test := range map[string]struct {
		hs   []hierarchy
		want string
	}{
		"service":         {[]hierarchy{{"", "/system.slice/sshd.service"}}, "sshd.service"},
		"instance":        {[]hierarchy{{"", "/system.slice/system-getty.slice/getty@tty1.service"}}, "getty@tty1.service"},
		"session":         {[]hierarchy{{"", "/user.slice/user-1000.slice/session-3.scope"}}, "session-3.scope"},
		"user's own unit": {[]hierarchy{{"", "/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service"}}, "user@1000.service"},
		"delegated":       {[]hierarchy{{"", "/system.slice/a.service/sshd.service"}}, "a.service"},
		"init":            {[]hierarchy{{"", "/init.scope"}}, "init.scope"},
		"escaped":         {[]hierarchy{{"", "/system.slice/_cgroup.service"}}, "cgroup.service"},
		"systemd's first": {[]hierarchy{{"", "/a.service"}, {"memory", "/b.service"}, {"name=systemd", "/system.slice/c.service"}}, "c.service"},
		"v1 alone":        {[]hierarchy{{"memory", "/b.service"}}, ""},
		"root":            {[]hierarchy{{"", "/"}}, ""},
		"no unit":         {[]hierarchy{{"", "/process_api/x.service"}}, ""},
		"slice only":      {[]hierarchy{{"", "/system.slice"}}, ""},
		"only a suffix":   {[]hierarchy{{"", "/.service"}}, ""},
	} {
		if got := unitOf(test.hs); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func FuzzParseCgroup(f *testing.F) {
	f.Add("0::/system.slice/docker-" + idA + ".scope\n")
	f.Add("9:name=systemd:/docker/" + idA + "\n4:memory:/\n0::/docker/" + idA + "\n")
	f.Add("0::/../x\n")
	f.Add("2:cpu,cpuacct:/a:b/c (deleted)\n")
	line := regexp.MustCompile(`^(0::|[1-9]?[0-9]*:[^:/\n]+:)/`)
	oracle := regexp.MustCompile(`(?:^|[^0-9A-Za-z])[0-9a-f]{64}(?:[^0-9A-Za-z]|$)`)
	f.Fuzz(func(t *testing.T, text string) {
		hs, err := parseCgroup(text)
		if err != nil {
			return
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(hs) != len(lines) || len(hs) > maxHierarchies {
			t.Fatalf("%d hierarchies of %d lines", len(hs), len(lines))
		}
		unitOf(hs)
		for i, h := range hs {
			if !line.MatchString(lines[i]) || !strings.HasSuffix(lines[i], ":"+h.controllers+":"+h.path) {
				t.Fatalf("line %q read as %+v", lines[i], h)
			}
			if h.path == "/" {
				continue
			}
			for name := range strings.SplitSeq(h.path[1:], "/") {
				if name == "" || name == "." || name == ".." {
					t.Fatalf("path %q is not clean", h.path)
				}
				if !strings.Contains(name, "-conmon-") && holdsID(name) != oracle.MatchString(name) {
					t.Fatalf("holdsID(%q) = %t", name, holdsID(name))
				}
			}
		}
	})
}
