package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

func wide(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

// grubBoot is a boot as grub and systemd-stub measure it.
func grubBoot(commandLine, initrd string) []byte {
	event := func(mr, kind uint32, hashed, data []byte) boot.Event {
		return boot.Event{MR: mr, Type: kind, Digest: sha512.Sum384(hashed), Data: data}
	}
	zero := make([]byte, 4)
	return boot.Encode([]boot.Event{
		event(1, boot.EvSeparator, zero, zero),
		event(2, boot.EvSeparator, zero, zero),
		event(3, boot.EvIPL, []byte("the kernel's bytes"), []byte("/vmlinuz\x00")),
		event(3, boot.EvIPL, []byte(commandLine), []byte("kernel_cmdline: "+commandLine+"\x00")),
		event(3, boot.EvEventTag, []byte(initrd), []byte("\xec\x3b\x22\x8f\x0d\x00\x00\x00Linux initrd\x00")),
		event(3, boot.EvIPL, wide(commandLine), wide(commandLine)),
		event(3, boot.EvNoAction, nil, []byte("extends nothing")),
	})
}

const commandLine = "/vmlinuz root=/dev/mapper/root roothash=abcd ro"

func digestOf(text string) *rpc.Digest { d := rpc.Digest(sha512.Sum384([]byte(text))); return &d }

// sequenceText is a policy that knows RTMR2 by its events.
func sequenceText(t *testing.T, r *Result, items ...string) string {
	t.Helper()
	var quoted []string
	for _, item := range items {
		if !strings.HasPrefix(item, "*") {
			item = digestOf(item).String()
		}
		quoted = append(quoted, fmt.Sprintf("%q", item))
	}
	text := replaced(t, textOf(t, r), fmt.Sprintf("rtmr2 = %q", r.Registers.RTMR[2].String()), "rtmr2 = ["+strings.Join(quoted, ",")+"]\nwaive = \"boot-varies\" #")
	return text
}

// A register that is known by its events: their order and number count (ATTACKS, V1).
func TestBootSequence(t *testing.T) {
	kernel, line, initrd, stub := "the kernel's bytes", commandLine, "the initrd", string(wide(commandLine))
	for name, c := range map[string]struct {
		commandLine, initrd string
		events              []string
		fits                bool
	}{
		"as it is":         {commandLine, initrd, []string{kernel, line, initrd, stub}, true},
		"another line":     {commandLine + " init=/bin/sh", initrd, []string{kernel, line, initrd, stub}, false},
		"behind a newline": {"evil\n" + commandLine, initrd, []string{kernel, line, initrd, stub}, false},
		"another initrd":   {commandLine, "another", []string{kernel, line, initrd, stub}, false},
		"any initrd":       {commandLine, "another", []string{kernel, line, "*initrd", stub}, true},
		"up to the next":   {commandLine, "another", []string{kernel, "*grub…", stub}, true},
		"one is missing":   {commandLine, initrd, []string{kernel, line, initrd, stub, "more"}, false},
		"one too many":     {commandLine, initrd, []string{kernel, line, initrd}, false},
		"in another order": {commandLine, initrd, []string{initrd, line, kernel, stub}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sim.Config{BootLog: grubBoot(c.commandLine, c.initrd)})
			w.launch(idOne, "one", "/bin/one")
			bundle, opts := encode(t, w.evidence(idOne)), w.options()
			text := sequenceText(t, appraiseT(t, bundle, opts), c.events...)
			if strings.Contains(text, "line = ") {
				text = without(t, text, "line = ")
			}
			text = without(t, text, "root = ")
			text = replaced(t, text, "host_input", "root = \"not covered\"\nhost_input")
			opts.Policy = parsePolicy(t, text)
			r := appraiseT(t, bundle, opts)
			if c.fits {
				expect(t, r, Trusted)
				return
			}
			expect(t, r, NotTrusted, StepBootValues)
			if s := r.Step(StepBootValues); !strings.Contains(s.Detail, "RTMR2") {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestOSLogPolicy: where IMA extends RTMR2, a policy has the register's value
// at the end of the boot, and allows more extends after it.
func TestOSLogPolicy(t *testing.T) {
	w, ima := imaWorld(t)
	e := w.evidence(idOne)
	e.OSLogs = osLog(ima)
	bundle, opts := encode(t, e), w.options()
	first := appraiseT(t, bundle, opts)
	expect(t, first, NotTrusted)
	made := textOf(t, first)
	opts.Policy = parsePolicy(t, made)
	expect(t, appraiseT(t, bundle, opts), Trusted)
	opts.Policy = parsePolicy(t, without(t, made, "os_log = true"))
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepBootValues)
}

// TestBootHiddenInOSLog: a host that boots something more, after everything
// that the policy knows, can't present it as IMA's entries.
func TestBootHiddenInOSLog(t *testing.T) {
	good, ima := imaWorld(t)
	e := good.evidence(idOne)
	e.OSLogs = osLog(ima)
	opts := good.options()
	opts.Policy = policyOf(t, appraiseT(t, encode(t, e), opts))

	log := good.bootLog()
	initrd := boot.Event{MR: 3, Type: boot.EvIPL, Digest: sum384([]byte("an initrd of the host's"))}
	bad := newWorld(t, sim.Config{BootLog: boot.AppendEvent(bytes.Clone(log), initrd)})
	bad.launch(idOne, "one", "/bin/one")
	line, digest := imaEntry(10, "boot_aggregate")
	if err := bad.td.ExtendRTMR(t.Context(), 2, digest); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("%096x", 0xabc)
	forged := fmt.Appendf(nil, "10 %x ima-ng sha384:%s boot_aggregate\n", initrd.Digest, file)
	violation := fmt.Appendf(nil, "10 %096d ima-ng sha384:%s boot_aggregate\n", 0, file)
	opts.TrustRoots = bad.roots()
	for name, c := range map[string]struct {
		logs    []rpc.OSLog
		verdict Verdict
		failed  string
	}{
		"a digest":      {append([]rpc.OSLog{{Register: "rtmr2", Format: rpc.FormatIMADigests, Entries: initrd.Digest[:]}}, osLog(line)...), NotTrusted, StepBootValues},
		"all digests":   {[]rpc.OSLog{{Register: "rtmr2", Format: rpc.FormatIMADigests, Entries: append(bytes.Clone(initrd.Digest[:]), digest[:]...)}}, NotTrusted, StepBootValues},
		"a false line":  {osLog(append(forged, line...)), NotAuthentic, StepBootLog},
		"no violation":  {osLog(append(violation, line...)), NotAuthentic, StepBootLog},
		"nothing there": {osLog(line), NotAuthentic, StepBootLog},
	} {
		t.Run(name, func(t *testing.T) {
			claims := bad.claims(idOne)
			claims.BootLog = sum384(log)
			e := bad.seal(claims, bad.key)
			e.BootLog, e.OSLogs = log, c.logs
			expect(t, appraiseT(t, encode(t, e), opts), c.verdict, c.failed)
		})
	}
	// in files, entries that don't match their hashes are a warning
	f := bad.files(hw.ReportData{})
	opts.Nonce = nil
	opts.Policy = parsePolicy(t, bootText(appraiseT(t, encode(t, e), good.options()), "os_log = true"))
	f.BootLog, f.IMALog = log, append(forged, line...)
	r := appraiseFiles(t, f, opts)
	expect(t, r, NotTrusted, StepBootValues)
	if s := r.Step(StepBootLog); s.Outcome != Warn {
		t.Errorf("bare: %+v", s)
	}
}

// TestBootHiddenInRuntimeLog: records of a runtime log can be of any register.
// Those of the boot's registers don't count as the boot that a policy knows.
func TestBootHiddenInRuntimeLog(t *testing.T) {
	for register, member := range []string{"rtmr0", "rtmr1", "rtmr2"} {
		good := newWorld(t, sim.Config{BootLog: grubBoot(commandLine, "the initrd")})
		opts := good.options()
		opts.Nonce = nil
		first := appraiseFiles(t, good.files(hw.ReportData{}), opts)
		separator := digestOf("\x00\x00\x00\x00")
		known := func(more string) *policy.Policy {
			text := bootText(first, more)
			if register < 2 { // the others are known by value
				text = replaced(t, text, fmt.Sprintf("rtmr%d=%q", register, first.Registers.RTMR[register].String()), fmt.Sprintf("rtmr%d=[%q]", register, separator))
			}
			return parsePolicy(t, text)
		}
		opts.Policy = known("")
		expect(t, appraiseFiles(t, good.files(hw.ReportData{}), opts), Trusted)

		hidden := boot.Event{MR: uint32(register + 1), Type: boot.EvIPL, Digest: sum384([]byte("something of the host's"))}
		log := good.bootLog()
		bad := newWorld(t, sim.Config{BootLog: boot.AppendEvent(bytes.Clone(log), hidden)})
		f := bad.files(hw.ReportData{})
		f.BootLog = log
		f.RuntimeLog = append(logs.AppendCELJSON(nil, logs.CELRecord{RTMR: register, Digest: hidden.Digest, Type: hidden.Type}), '\n')
		for i, e := range bad.log {
			f.RuntimeLog = append(logs.AppendCELJSON(f.RuntimeLog, logs.CELRecord{Number: uint64(i + 1), RTMR: 3, Digest: e.Digest(), Type: boot.EvEventTag, Data: e.Bytes()}), '\n')
		}
		opts.TrustRoots = bad.roots()
		for _, more := range []string{"", "os_log = true"} {
			opts.Policy = known(more)
			r := appraiseFiles(t, f, opts)
			t.Run(member, func(t *testing.T) { expect(t, r, NotTrusted, StepBootValues) })
			if s := r.Step(StepBootLog); s.Outcome != Pass {
				t.Errorf("%s: %+v", member, s)
			}
		}
	}
}
