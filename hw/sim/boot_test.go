package sim

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-eventlog/ccel"
	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/register"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

func TestSyntheticBootLooksLikeOne(t *testing.T) {
	m := boot(t, Config{})
	raw, err := m.BootLog()
	if err != nil {
		t.Fatal(err)
	}
	log, err := logs.ParseBootLog(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) <= len(log.Bytes()) {
		t.Error("no padding behind the log")
	}
	seen := map[uint32]int{}
	var commandLine string
	for _, e := range log.UnverifiedEvents() {
		seen[e.Type]++
		if text, ok := bytes.CutPrefix(e.Data, []byte("kernel_cmdline: ")); ok {
			commandLine = string(text)
		}
	}
	for _, kind := range []uint32{logs.EvSeparator, logs.EvEventTag, logs.EvIPL, logs.EvEFIVariableDriverConfig, logs.EvEFIBootServicesApplication, logs.EvEFIHandoffTables2} {
		if seen[kind] == 0 {
			t.Errorf("no %s", logs.EventTypeName(kind))
		}
	}
	_, hash, found := strings.Cut(commandLine, " roothash=")
	if hash, _, _ = strings.Cut(hash, " "); !found || len(hash) != 64 {
		t.Errorf("kernel command line %q has no root hash", commandLine)
	}
}

// google/go-eventlog, which nobody here wrote, replays the log to the same
// registers and finds secure boot on.
func TestSyntheticBootByAnotherParser(t *testing.T) {
	m := boot(t, Config{})
	var bank register.RTMRBank
	for i, rtmr := range m.read().RTMR {
		bank.RTMRs = append(bank.RTMRs, register.RTMR{Index: i, Digest: rtmr[:]})
	}
	state, err := ccel.ReplayAndExtract(nil, m.bootLog, bank, extract.Opts{Loader: extract.GRUB, SkipACPITableCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if !state.GetSecureBoot().GetEnabled() {
		t.Error("secure boot is off")
	}
	if line := state.GetLinuxKernel().GetCommandLine(); !strings.Contains(line, "roothash=") {
		t.Errorf("kernel command line %q", line)
	}
}

func TestBootByALogOfOnesOwn(t *testing.T) {
	events := []logs.BootEvent{{MR: 1, Type: logs.EvSeparator, Digest: [48]byte{1}, Data: make([]byte, 4)}}
	m := boot(t, Config{BootLog: logs.EncodeBootLog(events), MRTD: hw.Digest{8}})
	want := hw.Registers{MRTD: hw.Digest{8}, RTMR: [4]hw.Digest{hw.Digest{}.Extend(hw.Digest{1})}}
	if got := m.read(); got != want {
		t.Errorf("registers %v, want %v", got, want)
	}
	events[0].MR = 4
	for _, bad := range []Config{
		{BootLog: logs.EncodeBootLog(events)},
		{BootLog: []byte("nonsense")},
		{BootLog: make([]byte, maxBootLog+1)},
		{QuoteVersion: 3},
		{Faults: []Fault{{Op: "nonsense"}}},
	} {
		if _, err := Boot(bad); err == nil {
			t.Errorf("booted with version %d, %d bytes of log", bad.QuoteVersion, len(bad.BootLog))
		}
	}
}

func TestFaultsOfExtend(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault Fault
		want  error
		done  bool
	}{
		{"busy before", Fault{Errno: syscall.EBUSY}, hw.ErrBusy, false},
		{"interrupted before", Fault{Errno: syscall.EINTR}, syscall.EINTR, false},
		{"failed after", Fault{Errno: syscall.EIO, After: true}, syscall.EIO, true},
		{"hangs before", Fault{Hang: true}, context.DeadlineExceeded, false},
		{"hangs after", Fault{Hang: true, After: true}, context.DeadlineExceeded, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, td := serve(t, Config{})
			start := m.read().RTMR[3]
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			test.fault.Op, test.fault.Skip, test.fault.Times = OpExtend, 1, 1
			if err := td.Inject(ctx, test.fault); err != nil {
				t.Fatal(err)
			}
			if err := td.Extend(ctx, hw.Digest{1}); err != nil {
				t.Fatalf("the call that passes: %v", err)
			}
			want := start.Extend(hw.Digest{1})
			if err := td.Extend(ctx, hw.Digest{2}); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if test.done {
				want = want.Extend(hw.Digest{2})
			}
			if got := m.read().RTMR[3]; got != want {
				t.Errorf("RTMR3 %s, want %s", got, want)
			}
			if err := td.Extend(context.Background(), hw.Digest{3}); err != nil {
				t.Errorf("the call after the fault: %v", err)
			}
		})
	}
}

func TestFaultsOfQuote(t *testing.T) {
	m, td := serve(t, Config{Faults: []Fault{
		{Op: OpQuote, Errno: syscall.ETIMEDOUT, Times: 1},
		{Op: OpQuote, Empty: true, Times: 1},
		{Op: OpRegisters, Errno: syscall.EIO, Times: 1},
	}})
	ctx := context.Background()
	if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("first quote: %v", err)
	}
	if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("empty quote: %v", err)
	}
	if _, err := td.Registers(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("registers: %v", err)
	}
	if quote, err := td.Quote(ctx, hw.ReportData{}); err != nil || judge(quote, m.RootPEM()) != nil {
		t.Errorf("the quote after the faults: %v", err)
	}
	if err := td.Inject(ctx, Fault{Op: OpQuote, After: true}); err == nil {
		t.Error("a fault that can't be was taken")
	}
}

// One quote at a time, with the registers of its beginning; a caller that
// leaves does not interrupt it.
func TestQuotesTakeTurns(t *testing.T) {
	const delay = 60 * time.Millisecond
	m, td := serve(t, Config{QuoteDelay: delay})
	start, before := time.Now(), m.read()
	brief, cancel := context.WithTimeout(context.Background(), delay/3)
	defer cancel()
	if _, err := td.Quote(brief, hw.ReportData{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("abandoned quote: %v", err)
	}
	second := make(chan []byte)
	go func() {
		quote, err := td.Quote(context.Background(), hw.ReportData{})
		if err != nil {
			t.Error(err)
		}
		second <- quote
	}()
	time.Sleep(delay + delay/3 - time.Since(start) + delay/6) // the second is in flight
	if err := td.Extend(context.Background(), hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	quote := <-second
	if took := time.Since(start); took < 2*delay {
		t.Errorf("two quotes took %v, one alone takes %v", took, delay)
	}
	const rtmr3 = 48 + 136 + 4*48 + 3*48 // header, body up to MRTD, four digests, RTMR0–2
	if !bytes.Equal(quote[rtmr3:rtmr3+48], before.RTMR[3][:]) {
		t.Error("the quote's RTMR3 is not that of its beginning")
	}
}

func TestHangingQuoteEndsWithTheFault(t *testing.T) {
	_, td := serve(t, Config{Faults: []Fault{{Op: OpQuote, Hang: true}}})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for range 2 {
		if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging quote: %v", err)
		}
	}
	if err := td.Inject(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := td.Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Errorf("after the hang: %v", err)
	}
}
