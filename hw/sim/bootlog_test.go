package sim

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-eventlog/ccel"
	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/register"

	"github.com/cima-project/cima/logs/boot"
)

func TestSyntheticBootLooksLikeOne(t *testing.T) {
	m := bootMachine(t, Config{})
	raw, err := m.BootLog()
	if err != nil {
		t.Fatal(err)
	}
	log, err := boot.Parse(raw)
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
	for _, kind := range []uint32{boot.EvSeparator, boot.EvEventTag, boot.EvIPL, boot.EvEFIVariableDriverConfig, boot.EvEFIBootServicesApplication, boot.EvEFIHandoffTables2} {
		if seen[kind] == 0 {
			t.Errorf("no %s", boot.TypeName(kind))
		}
	}
	_, hash, found := strings.Cut(commandLine, " roothash=")
	if hash, _, _ = strings.Cut(hash, " "); !found || len(hash) != 64 {
		t.Errorf("kernel command line %q has no root hash", commandLine)
	}
}

// google/go-eventlog, an independent implementation, replays the log to the
// same registers and finds that secure boot is on.
func TestSyntheticBootByAnotherParser(t *testing.T) {
	m := bootMachine(t, Config{})
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
