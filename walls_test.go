// Package cima holds the rules of the tree as tests: see ARCHITECTURE.md and CONTRIBUTING.md.
package cima

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/cima-project/cima/"

// allowed says which packages a package may import (ARCHITECTURE.md, The walls). A
// package that is not listed imports leaves alone.
var allowed = map[string][]string{
	"daemon": {
		"daemon/api",
		"daemon/config",
		"daemon/containers",
		"daemon/engines",
		"daemon/execs",
		"daemon/gate",
		"daemon/journal",
		"daemon/launch",
		"daemon/ledger",
		"daemon/oslog",
		"daemon/peer",
		"daemon/quotes",
		"daemon/records",
		"daemon/services",
		"hw",
		"logs",
		"logs/boot",
		"rpc",
	},
	"daemon/api": {
		"daemon/config",
		"daemon/containers",
		"daemon/execs",
		"daemon/launch",
		"daemon/ledger",
		"daemon/metrics",
		"daemon/oslog",
		"daemon/peer",
		"daemon/quotes",
		"hw",
		"logs",
		"logs/boot",
		"rpc",
		"rpc/form",
		"rpc/server",
	},
	"daemon/cima-imds": {"hw/imds/host"},
	"daemon/cimad":     {"daemon", "hw"},
	"daemon/cimad-sim": {"daemon", "hw", "hw/sim"},
	"daemon/config":    {"daemon/ledger", "hw/verify/tables", "logs", "rpc"},
	"daemon/containers": {
		"daemon/config",
		"daemon/confirmed",
		"daemon/engines",
		"daemon/gate",
		"daemon/launch",
		"daemon/ledger",
		"daemon/metrics",
		"daemon/oslog",
		"daemon/peer",
		"daemon/power",
		"daemon/records",
		"daemon/told",
		"logs",
		"rpc",
	},
	"daemon/engines": {"daemon/launch", "daemon/records", "daemon/storage"},
	"daemon/execs": {
		"daemon/config",
		"daemon/gate",
		"daemon/ledger",
		"daemon/metrics",
		"daemon/oslog",
		"daemon/peer",
		"daemon/records",
		"logs",
		"logs/ima",
		"rpc",
	},
	"daemon/launch":            {"logs"},
	"daemon/ledger":            {"hw", "logs"},
	"daemon/ledger/ledgertest": {"daemon/ledger", "hw", "logs"},
	"daemon/oslog":             {"daemon/config", "daemon/ledger", "hw", "logs", "logs/boot", "logs/ima", "rpc"},
	"daemon/power":             {"daemon/launch", "logs"},
	"daemon/quotes":            {"daemon/metrics", "hw", "rpc"},
	"daemon/records":           {"daemon/launch", "daemon/power", "logs", "daemon/storage"},
	"daemon/services":          {"daemon/config", "daemon/launch", "daemon/ledger", "logs"},
	"daemon/storage":           {"daemon/launch", "daemon/storage/bolt"},
	"daemon/told":              {"daemon/gate", "daemon/power", "daemon/records"},
	"hw":                       {"hw/imds", "hw/vtpm", "logs"},
	"hw/sim":                   {"hw", "logs", "logs/boot"},
	"hw/verify":                {"hw", "hw/verify/codes", "hw/verify/dcap", "hw/verify/evidence", "hw/verify/firstseen", "hw/verify/guest", "hw/verify/instances", "hw/verify/named", "hw/verify/platform", "hw/verify/policy", "hw/verify/replay", "hw/verify/snp", "hw/verify/wanted", "logs", "logs/boot", "rpc"},
	"hw/verify/card":           {"hw/verify", "hw/verify/replay", "rpc"},
	"hw/verify/codes":          {"hw/verify/tables"},
	"hw/verify/dcap":           {"hw", "hw/verify/crl"},
	"hw/verify/evidence":       {"hw", "hw/verify/dcap", "hw/verify/replay", "hw/verify/snp", "hw/verify/vtpm", "logs", "logs/boot", "logs/pcr", "rpc"},
	"hw/verify/firstseen":      {"hw", "hw/verify/cmdline", "hw/verify/codes", "hw/verify/guest", "hw/verify/launches", "hw/verify/paravisor", "hw/verify/policy", "hw/verify/snp", "hw/verify/tables", "logs", "logs/boot", "rpc"},
	"hw/verify/collateral":     {"hw/verify/dcap", "hw/verify/snp"},
	"hw/verify/kds":            {"hw/verify/dcap", "hw/verify/snp"},
	"hw/verify/snp":            {"hw/verify/crl"},
	"hw/verify/guest":          {"hw", "hw/verify/snp", "hw/verify/tables", "hw/verify/wanted"},
	"hw/verify/named":          {"hw", "hw/verify/dcap", "hw/verify/evidence", "hw/verify/instances", "hw/verify/policy", "logs"},
	"hw/verify/instances":      {"hw", "hw/verify/launches", "hw/verify/match", "hw/verify/policy", "hw/verify/wanted", "logs", "rpc"},
	"hw/verify/launches":       {"hw/verify/wanted", "logs"},
	"hw/verify/match":          {"hw/verify/launches", "hw/verify/tables", "hw/verify/wanted"},
	"hw/verify/policydiff":     {"hw/verify/policy"},
	"hw/verify/paravisor":      {"hw", "hw/verify/tables"},
	"hw/verify/revoked":        {"hw/verify/tables"},
	"hw/verify/peers":          {"hw/verify", "rpc"},
	"hw/verify/page":           {"hw/verify", "hw/verify/card", "hw/verify/codes", "hw/verify/evidence", "hw/verify/replay", "logs", "logs/boot", "rpc"},
	"hw/verify/platform":       {"hw/verify/tables", "hw/verify/wanted"},
	"hw/verify/policy":         {"hw", "hw/verify/cmdline", "hw/verify/codes", "hw/verify/guest", "hw/verify/launches", "hw/verify/match", "hw/verify/paravisor", "hw/verify/platform", "hw/verify/revoked", "hw/verify/tables", "hw/verify/wanted", "logs", "logs/boot"},
	"hw/verify/replay":         {"hw", "hw/verify/dcap", "logs", "logs/alg", "logs/boot", "logs/ima", "rpc"},
	"logs":                     {"logs/alg", "logs/boot"},
	"logs/boot":                {"logs/alg"},
	"logs/boot/direct":         {"logs/boot/authenticode", "logs/boot/expected"},
	"logs/boot/expected":       {"logs/boot"},
	"logs/boot/firmware":       {"logs/boot/expected"},
	"logs/boot/grub":           {"logs/boot/authenticode", "logs/boot/expected"},
	"logs/boot/uki":            {"logs/boot/authenticode", "logs/boot/expected"},
	"hw/verify/computed":       {"hw/verify/cmdline", "hw/verify/policy", "logs/boot/expected"},
	"logs/ima":                 {"logs/alg"},
	"daemon/launch/predict": {
		"daemon/launch",
	},
	"daemon/launch/predict/compose": {
		"daemon/launch/predict",
		"daemon/launch/predict/strictyaml",
	},
	"daemon/launch/predict/pod": {
		"daemon/launch/predict",
		"daemon/launch/predict/strictyaml",
	},
	"daemon/launch/predict/image": {
		"daemon/launch",
		"daemon/launch/predict",
	},
	"rpc/cimactl": {
		"hw",
		"logs/boot",
		"rpc",
		"rpc/cimactl/appraise",
		"rpc/cimactl/boot",
		"rpc/cimactl/collateral",
		"rpc/cimactl/command",
		"rpc/cimactl/licenses",
		"rpc/cimactl/policy",
		"rpc/cimactl/predict",
		"rpc/cimactl/reference",
		"rpc/cimactl/replay",
		"rpc/cimactl/tls",
		"rpc/cimactl/results",
		"rpc/cimactl/seal",
		"rpc/form",
		"rpc/userdata",
	},
	"rpc/cimactl/results":  {"hw/verify", "hw/verify/ear", "rpc/cimactl/command"},
	"rpc/cimactl/seal":     {"hw/verify", "rpc", "rpc/cimactl/command", "rpc/userdata"},
	"hw/verify/ear":        {"hw/verify", "hw/verify/codes", "hw/verify/policy", "rpc", "rpc/userdata"},
	"hw/imds/host":         {"hw/imds"},
	"hw/vtpm/vtpmtest":     {"hw/vtpm"},
	"hw/verify/verifytest": {"hw", "hw/sim", "hw/verify", "hw/verify/codes", "hw/verify/dcap", "hw/verify/policy", "hw/verify/vtpm", "hw/verify/vtpm/vtpmtest", "logs", "logs/boot", "rpc", "rpc/userdata"},
	"rpc/cimactl/boot": {
		"hw/verify/computed",
		"hw/verify/dcap",
		"logs/boot",
		"logs/boot/direct",
		"logs/boot/expected",
		"logs/boot/firmware",
		"logs/boot/grub",
		"logs/boot/uki",
		"rpc",
		"rpc/cimactl/command",
	},
	"rpc/cimactl/command":    {"rpc"},
	"rpc/cimactl/licenses":   {"rpc/cimactl/command"},
	"rpc/cimactl/policy":     {"hw/verify", "hw/verify/codes", "hw/verify/policy", "hw/verify/policydiff", "hw/verify/replay", "rpc", "rpc/cimactl/appraise", "rpc/cimactl/command"},
	"rpc/cimactl/appraise":   {"hw/verify", "hw/verify/card", "hw/verify/collateral", "hw/verify/dcap", "hw/verify/kds", "hw/verify/page", "hw/verify/policy", "hw/verify/replay", "hw/verify/signers", "hw/verify/snp", "rpc/cimactl/command", "rpc/cimactl/instead", "rpc/cimactl/replay", "rpc/cimactl/results", "rpc/cimactl/seal"},
	"rpc/cimactl/instead":    {"rpc/form"},
	"rpc/cimactl/collateral": {"hw", "hw/verify/collateral", "hw/verify/dcap", "hw/verify/snp", "rpc", "rpc/cimactl/appraise", "rpc/cimactl/command"},
	"rpc/cimactl/reference": {
		"daemon/launch",
		"hw/verify/computed",
		"hw/verify/endorsed",
		"logs/boot/expected",
		"rpc/cimactl/command",
		"rpc/cimactl/predict",
	},
	"rpc/cimactl/predict": {
		"daemon/launch",
		"daemon/launch/predict",
		"daemon/launch/predict/compose",
		"daemon/launch/predict/image",
		"daemon/launch/predict/pod",
		"daemon/launch/predict/strictyaml",
		"daemon/records",
		"rpc",
		"rpc/cimactl/command",
	},
	"rpc/cimactl/replay": {"hw/verify/page", "hw/verify/replay", "rpc/cimactl/command"},
	"rpc/cimactl/tls":    {"hw/verify/peers", "hw/verify/replay", "rpc", "rpc/atls", "rpc/cimactl/appraise", "rpc/cimactl/command", "rpc/tree"},
	"rpc/form":           {"logs", "logs/alg", "logs/boot", "logs/ima", "rpc"},
	"rpc":                {"rpc/lines", "rpc/unreached"},
	"rpc/atls":           {"rpc", "rpc/tree"},
	"rpc/tree":           {"rpc"},
	"rpc/compat":         {"rpc", "rpc/quote"},
	"rpc/openrpc":        {"rpc"},
	"rpc/server":         {"rpc", "rpc/openrpc", "rpc/server/door"},

	"hw/verify/collateral/collateraltest": {"hw", "hw/sim", "hw/verify/dcap"},
}

// leaves may be imported by all: they hold what would be written twice otherwise.
var leaves = []string{"logs/canonical", "logs/pcr", "daemon/abandon", "daemon/fifo", "daemon/hashing", "daemon/overlay", "daemon/procfs", "daemon/trust"}

type listed struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
	Doc        string
	GoFiles    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	packages, err := listOnce()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return packages
}

var listOnce = sync.OnceValues(func() (packages []listed, err error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Imports,Deps,Doc,GoFiles", "./...").Output()
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
})

func TestWalls(t *testing.T) {
	seen := 0
	for _, p := range list(t) {
		dir, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(dir, "packaging/") {
			continue
		}
		seen++
		for _, i := range p.Imports {
			other, ours := strings.CutPrefix(i, module)
			if ours && !slices.Contains(allowed[dir], other) && !slices.Contains(leaves, other) {
				t.Errorf("%s imports %s: it must declare what it needs as an interface of its own", dir, other)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

// A launch can be predicted on any system: its package opens nothing.
func TestLaunchIsPure(t *testing.T) {
	seen := 0
	for _, p := range list(t) {
		dir := strings.TrimPrefix(p.ImportPath, module)
		if dir != "daemon/launch" && !strings.HasPrefix(dir, "daemon/launch/predict") {
			continue
		}
		seen++
		for _, i := range p.Imports {
			if i == "os" || i == "net" || strings.HasPrefix(i, "net/") || i == "syscall" || strings.HasPrefix(i, "golang.org/x/sys/") || i == module+"daemon/procfs" {
				t.Errorf("%s imports %s: files and sockets are daemon/records', daemon/engines' and rpc/cimactl's", dir, i)
			}
		}
	}
	if seen < 6 {
		t.Errorf("%d packages were looked at: was one renamed?", seen)
	}
}

// The released daemon holds no simulation and no verifier and reads no YAML, and cimactl
// holds no hardware that it could write to by the daemon.
func TestWhatBinariesLink(t *testing.T) {
	forbidden := map[string][]string{
		"daemon/cimad":     {"hw/sim", "hw/verify", "daemon/launch/predict", "hw/imds/host"},
		"daemon/cimad-sim": {"hw/verify", "daemon/launch/predict", "hw/imds/host"},
		"daemon/cima-imds": {"daemon", "hw", "rpc"},
		"rpc/cimactl":      {"hw/sim", "daemon", "daemon/peer", "daemon/ledger"},
	}
	seen := 0
	for _, p := range list(t) {
		for _, f := range forbidden[strings.TrimPrefix(p.ImportPath, module)] {
			seen++
			if slices.Contains(p.Deps, module+f) {
				t.Errorf("%s links %s", p.ImportPath, f)
			}
		}
	}
	if seen != 14 {
		t.Errorf("%d of 14 pairs were looked at: was a binary renamed?", seen)
	}
}

// A program that imports the Go client links no server: neither jrpc2 nor what
// jrpc2 needs, which would serve /debug/vars on http.DefaultServeMux.
func TestWhatTheClientLinks(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"rpc" {
			continue
		}
		for _, d := range p.Deps {
			if d == "net/http" || d == "expvar" || d == "encoding/json" || strings.HasPrefix(d, "github.com/creachadair/") || strings.HasPrefix(d, module+"rpc/") && d != module+"rpc/lines" && d != module+"rpc/unreached" {
				t.Errorf("rpc links %s", d)
			}
		}
		return
	}
	t.Error("there is no package rpc")
}

// A service that proves itself over TLS links no verifier, and no server of HTTP.
func TestWhatAttestedTLSLinks(t *testing.T) {
	for _, p := range list(t) {
		if p.ImportPath != module+"rpc/atls" {
			continue
		}
		for _, d := range p.Deps {
			if d == "net/http" || d == "expvar" || d == "encoding/json" || strings.HasPrefix(d, "github.com/creachadair/") || strings.HasPrefix(d, module+"hw") || strings.HasPrefix(d, module+"daemon") {
				t.Errorf("rpc/atls links %s", d)
			}
		}
		return
	}
	t.Error("there is no package rpc/atls")
}

// Every package doc opens with the question that the package answers.
func TestWhatPackagesAnswer(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue // tests alone: go list shows no doc of theirs
		}
		if p.Name == "main" {
			if p.Doc == "" {
				t.Errorf("%s has no doc", p.ImportPath)
			}
			continue
		}
		if want := "Package " + p.Name + " answers: "; p.ImportPath+"/" != module && !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: the package doc doesn't open with %q", p.ImportPath, want)
		}
	}
}

// JSON is encoding/json/v2's, and what is hashed is written by logs/canonical. What
// engines and runtimes wrote is read by encoding/json, because they read it so
// themselves: names in any case, and the last of two members.
func TestOneJSON(t *testing.T) {
	first := []string{"daemon/engines", "daemon/launch", "daemon/launch/launchtest", "daemon/power", "daemon/records"}
	seen := 0
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(p.Imports, "github.com/gowebpki/jcs") {
			t.Errorf("%s imports gowebpki/jcs", name)
		}
		if !slices.Contains(p.Imports, "encoding/json") || strings.HasPrefix(name, "packaging/") {
			continue
		}
		if seen++; !slices.Contains(first, name) {
			t.Errorf("%s imports encoding/json: take encoding/json/v2, or logs/canonical", name)
		}
	}
	if seen != len(first) {
		t.Errorf("%d packages import encoding/json, want %d", seen, len(first))
	}
}
