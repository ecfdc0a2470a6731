package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The examples are read: SPIRE's in HCL, with words that this program knows. (make proof-spire gives such a configuration to SPIRE itself.)
func TestExamples(t *testing.T) {
	words := regexp.MustCompile(`plugin_args = \["([a-z-]+)"\]`)
	for file, want := range map[string]string{"agent.conf": "node-agent workload", "server.conf": "node-server"} {
		text, err := os.ReadFile("examples/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hcl.ParseBytes(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		var got []string
		for _, m := range words.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(usage, m[1]) {
				t.Errorf("%s: %s is no word of this program", file, m[1])
			}
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %s", file, got, want)
		}
	}
}

// The manual's policy of names is one by which containers have them.
func TestManualsPolicy(t *testing.T) {
	text, err := os.ReadFile("../../man/cima-spire.7.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?m)^    cima_policy = 2\n(    .*\n|\n)+`).Find(text)
	digits := regexp.MustCompile(`LAUNCH-DIGEST-OF-1\.(\d)`).ReplaceAllString(string(block), strings.Repeat("a", 95)+"$1")
	p, err := policy.Parse("cima-spire(7)", []byte(strings.ReplaceAll(digits, "\n    ", "\n")))
	if err != nil {
		t.Fatalf("%v: %s", err, block)
	}
	if reasons, all := p.Unshown(); all || len(reasons) > 0 {
		t.Errorf("%q", reasons)
	}
}
