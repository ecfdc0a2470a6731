package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// captured are files of a simulated TD, as an admin would copy them.
func captured(t *testing.T) (dir string) {
	t.Helper()
	td, err := sim.Boot(sim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	boot, err := td.BootLog()
	if err != nil {
		t.Fatal(err)
	}
	var register canonical.Digest
	file := `{"cima":1,"boot_id":"x"}` + "\n"
	for i := range 3 {
		e, err := logs.NewEvent(logs.OpSeal, logs.Content{Measured: fmt.Appendf(nil, `{"seal":{"n":%d}}`, i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := td.Extend(context.Background(), e.Digest()); err != nil {
			t.Fatal(err)
		}
		after := register.Extend(e.Digest())
		file += fmt.Sprintf(`{"before":"%s","after":"%s","event":%q}`+"\n", register, after, base64.StdEncoding.EncodeToString(e.Bytes()))
		register = after
	}
	quote, err := td.Quote(context.Background(), hw.ReportData{})
	if err != nil {
		t.Fatal(err)
	}
	registers, err := td.Registers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	report := make([]byte, 1024)
	copy(report[528:], registers.MRTD[:])
	for i, r := range registers.RTMR {
		copy(report[720+48*i:], r[:])
	}
	dir = t.TempDir()
	for name, b := range map[string][]byte{
		"ccel": boot, "runtime": []byte(file), "quote": quote, "report": report, "root.pem": td.RootPEM(),
		"short": []byte(file[:strings.LastIndex(file, `{"before"`)]), "junk": []byte("junk"),
		"altered": []byte(strings.Replace(file, `"after":"`, `"after":"`+strings.Repeat("0", 96)+`","x":"`, 1)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inDir runs cimactl with names of files of dir marked by a leading @.
func inDir(dir, line string) (code int, stdout, stderr string) {
	args := strings.Fields(strings.ReplaceAll(line, "@", dir+"/"))
	var out, errs bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestReplay(t *testing.T) {
	dir := captured(t)
	for _, c := range []struct {
		line string
		code int
		says string // stdout or stderr holds it
	}{
		{"--boot-log @ccel --runtime-log @runtime --quote @quote", 0, "the first 3 of 3 runtime events give RTMR3"},
		{"--boot-log @ccel --runtime-log @runtime --tdreport @report", 0, "agrees"},
		{"--boot-log @ccel --quote @quote", 0, "not compared: no log is about it"},
		{"--boot-log @ccel", 0, "boot 0"},
		{"--runtime-log @runtime --quote @quote", 0, "runtime 2  rtmr3     seal  "},
		{"--runtime-log @short --quote @quote", 2, "DISAGREES"},
		{"--runtime-log @altered", 2, "event 0 doesn't lead"},
		{"--boot-log @ccel --no-events", 0, "rtmr0   "},
		{"--boot-log @junk", 5, "boot log"},
		{"--ima-log @junk", 5, "IMA log: no entry in it"},
		{"--runtime-log @junk", 5, "must be cimad's file"},
		{"--boot-log @ccel --quote @junk", 5, "cut off"},
		{"--boot-log @nosuch", 1, "no such file"},
		{"--quote @quote", 1, "a log must be given"},
		{"--boot-log @ccel --quote @quote --tdreport @report", 1, "--quote and --tdreport must not both be given"},
	} {
		code, out, errs := inDir(dir, "replay "+c.line)
		if code != c.code || !strings.Contains(compact(out+errs), compact(c.says)) {
			t.Errorf("%s: exit %d, not %d, or %q missing in\n%s%s", c.line, code, c.code, c.says, out, errs)
		}
		if strings.Contains(c.line, "--no-events") && strings.Contains(out, "boot 0") {
			t.Errorf("%s: printed events:\n%s", c.line, out)
		}
	}
}

func compact(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestReplayJSON(t *testing.T) {
	dir := captured(t)
	code, out, _ := inDir(dir, "replay --json --boot-log @ccel --runtime-log @short --quote @quote")
	var form struct {
		Registers     map[string]string
		Events        int
		Match         map[string]bool
		LastAgreement *int `json:"last_agreement"`
		Violations    *int
		Skipped       *int
	}
	if err := json.Unmarshal([]byte(out), &form); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if code != 2 || len(form.Registers) != 4 || len(form.Registers["rtmr0"]) != 96 || form.Violations == nil || form.Skipped == nil {
		t.Errorf("exit %d: %s", code, out)
	}
	if !form.Match["rtmr0"] || !form.Match["rtmr1"] || !form.Match["rtmr2"] || form.Match["rtmr3"] || len(form.Match) != 4 {
		t.Errorf("match %v", form.Match)
	}
	if form.LastAgreement != nil {
		t.Errorf("a log that is short agrees at %d", *form.LastAgreement)
	}
	code, out, _ = inDir(dir, "replay --json --runtime-log @runtime --quote @quote")
	if code != 0 || !strings.Contains(out, `"match":{"rtmr3":true},"last_agreement":3`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestVerifyQuote(t *testing.T) {
	dir := captured(t)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"--quote @quote --trust-root @root.pem", 0, "authentic, under a root that is simulated: Intel SGX Root CA of CIMA simulated TD – NOT HARDWARE\nwhat        a quote without claims"},
		{"--quote @quote --trust-root @root.pem --boot-log @ccel --runtime-log @runtime --verbose", 0, "replay to RTMR3"},
		{"--quote @quote", 2, "not trusted"},
		{"--quote @quote --trust-root @root.pem --runtime-log @short", 2, "rtmr3 holds something else"},
		{"--quote @quote --trust-root @root.pem --nonce 0011223344556677", 2, "REPORTDATA is not the nonce"},
		{"--quote @quote --trust-root @root.pem --nonce 00000000000000000000000000000000", 1, "must not be all zeros"},
		{"--quote @quote --trust-root @root.pem -v", 0, "REPORTDATA is zero: the quote was made for nobody"},
		{"--quote @quote --trust-root @root.pem --nonce 0011223344556677 --nonce-made soon", 1, "hint: give it as"},
		{"--quote @quote --trust-root @root.pem --online --pccs http://127.0.0.1:1", 3, "hint: --collateral DIR"},
		{"--quote @quote --trust-root @root.pem --collateral @none", 1, "tcb-43494d410000.json"},
		{"--quote @quote --online --collateral @none", 1, "--collateral and --online must not both be given"},
		{"--quote @quote --pccs http://127.0.0.1:1", 1, "--online"},
		{"--quote @quote --at soon", 1, "hint: write a time"},
		{"--quote @junk", 5, "malformed"},
		{"--boot-log @ccel", 1, "nothing to verify is given"},
		{"@quote --quote @quote", 1, "not both"},
	} {
		code, out, errs := inDir(dir, "verify "+c.line)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: exit %d, not %d, or %q missing in\n%s%s", c.line, code, c.code, c.says, out, errs)
		}
	}
}
