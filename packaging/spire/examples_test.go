package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/printer"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/packaging/spire/node"
	"github.com/cima-project/cima/packaging/spire/workload"
)

var root = flag.String("root", "", "`DIR` where the package is installed: its examples are read, and what they name must be there")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plugin is a block of SPIRE's plugins.
type plugin struct {
	Command string   `hcl:"plugin_cmd"`
	Words   []string `hcl:"plugin_args"`
	Data    ast.Node `hcl:"plugin_data"`
}

// The examples are as SPIRE reads them, and the plug-ins take what is theirs. (make
// proof-spire has SPIRE's own programs read them.)
func TestExamples(t *testing.T) {
	dir, program := "examples", ""
	if *root != "" {
		dir, program = *root+"/usr/share/doc/cima-spire/examples", *root+"/usr/libexec/cima/cima-spire"
	}
	here := t.TempDir()
	if err := os.WriteFile(here+"/nodes.toml", []byte("cima_policy = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	places := strings.NewReplacer("/etc/spire/", here+"/", "/var/lib/cima/collateral", here)
	for file, want := range map[string][]string{"agent.conf": {"node-agent", "workload"}, "server.conf": {"node-server"}} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Plugins map[string]map[string]plugin `hcl:"plugins"`
		}
		if err := hcl.Decode(&read, string(text)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var got []string
		for kind := range read.Plugins {
			p, ours := read.Plugins[kind]["cima"]
			if !ours {
				continue
			}
			if p.Command != "/usr/libexec/cima/cima-spire" || len(p.Words) != 1 || p.Data == nil {
				t.Fatalf("%s: %s has %+v", file, kind, p)
			}
			if info, err := os.Stat(program); program != "" && (err != nil || info.Mode().Perm() != 0o755) {
				t.Errorf("%s: %s: %v", file, p.Command, err)
			}
			var data bytes.Buffer
			if err := printer.Fprint(&data, p.Data); err != nil {
				t.Fatal(err)
			}
			got = append(got, p.Words[0])
			if err := takes(t, p.Words[0], places.Replace(data.String())); err != nil {
				t.Errorf("%s: %s: %v", file, p.Words[0], err)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// takes configures a plug-in of this program, by the word that SPIRE starts it with.
func takes(t *testing.T, word, data string) (err error) {
	r := &configv1.ConfigureRequest{CoreConfiguration: &configv1.CoreConfiguration{TrustDomain: "example.org"}, HclConfiguration: data}
	if !strings.Contains(usage, word) {
		return fmt.Errorf("it is no word of this program: %s", usage)
	}
	switch word {
	case "workload":
		_, err = workload.New().Configure(t.Context(), r)
	case "node-agent":
		_, err = new(node.Agent).Configure(t.Context(), r)
	case "node-server":
		_, err = node.NewServer().Configure(t.Context(), r)
	}
	return err
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
