package compat_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/daemon"
	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw/sim"
	//lint:ignore ST1019 programs of 0.5 import two packages, which are one here
	cima "github.com/cima-project/cima/rpc/compat"         // was: github.com/cc-api/…/sdk/golang/cima
	evidence_api "github.com/cima-project/cima/rpc/compat" // was: github.com/cc-api/evidence-api/…
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a daemon on a simulated TD, where programs look for it.
func serve(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("/tmp", "cima-c")
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	machine, err := sim.Boot(sim.Config{})
	must(err)
	c := config.Default()
	c.Gate.Mode, c.Engines.Docker, c.Engines.Podman = "off", "", ""
	ctx, cancel := context.WithCancel(context.Background())
	d, err := daemon.New(ctx, daemon.Options{
		TEE: machine, Config: c, LogDir: filepath.Join(dir, "log"), Version: "test", Log: slog.New(slog.DiscardHandler),
		Records: records.New(records.Options{Places: []records.Place{}}),
	})
	must(err)
	path := filepath.Join(dir, "cima.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(err)
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, daemon.Sockets{Caller: l}) }()
	t.Cleanup(func() {
		cancel()
		must(<-ended)
		d.Close()
	})
	t.Setenv("CIMA_SOCKET", path)
}

// A program for CIMA 0.5, as its README has it: every call, and what it returns.
func TestProgramForCIMA05(t *testing.T) {
	serve(t)
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	sdk := cima.SDK{}
	algorithm, err := sdk.GetDefaultAlgorithm()
	if err != nil || algorithm != evidence_api.TPM_ALG_SHA384 || algorithm.String() != "TPM_ALG_SHA384" {
		t.Errorf("algorithm %v: %v", algorithm, err)
	}
	count, err := sdk.GetMeasurementCount()
	if err != nil || count != 3 { // this process is in no container
		t.Errorf("%d registers: %v", count, err)
	}
	report, err := sdk.GetCCReport([]byte("12345678"), []byte("demo user data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	report.Dump(evidence_api.QuoteDumpFormat(evidence_api.QuoteDumpFormatRaw))
	report.Dump(evidence_api.QuoteDumpFormatHuman)
	events, err := sdk.GetCCEventLog()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		e.Dump()
	}
	for _, want := range []string{"00000000  04 00 02 00 81", "REPORTDATA: ", "Certificate: CN=", "Type              : 0x80000001 (EV_EFI_VARIABLE_DRIVER_CONFIG)"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("nothing was logged of %q", want)
		}
	}
	replayed := sdk.ReplayCCEventLog(events)
	for i := range count {
		m, err := sdk.GetCCMeasurement(i, algorithm)
		if err != nil || !bytes.Equal(m.Hash, replayed[i][algorithm]) || !bytes.Equal(m.Hash, report.IMRGroup().Group[i].Hash) {
			t.Errorf("register %d holds %x: %v", i, m.Hash, err)
		}
	}
	part, err := sdk.GetCCEventLog(3, 5)
	if err != nil || len(part) != 5 || !bytes.Equal(part[0].GetDigests()[0].Hash, events[3].GetDigests()[0].Hash) {
		t.Errorf("%d events: %v", len(part), err)
	}
	again, err := evidence_api.NewTdxReportFromBytes(report.(*evidence_api.TdxReport).Bound.CCReport)
	if err != nil || again.Quote.Body.ReportData != report.(*evidence_api.TdxReport).Quote.Body.ReportData {
		t.Error(err)
	}
	if empty := (evidence_api.TcgDigest{}); len(replayed[0][algorithm]) != sha512.Size384 || empty.AlgID != evidence_api.TPM_ALG_ERROR {
		t.Error("no SHA-384")
	}
}

// What CIMA 0.5 ended the program for is an error.
func TestErrorsAreReturned(t *testing.T) {
	serve(t)
	sdk := cima.SDK{}
	if _, err := sdk.GetCCEventLog(1, 2, 3); err == nil {
		t.Error("three parameters were taken")
	}
	if _, err := sdk.GetCCEventLog(0, 0); err == nil {
		t.Error("a count of zero was taken")
	}
	if _, err := sdk.GetCCMeasurement(3, evidence_api.TPM_ALG_SHA384); err == nil {
		t.Error("the host has no container register")
	}
	if _, err := sdk.GetCCReport([]byte("short"), nil, nil); err == nil {
		t.Error("a short nonce was taken")
	}
	if _, err := evidence_api.NewTdxReportFromBytes([]byte("no quote")); err == nil {
		t.Error("no quote was taken")
	}
}
