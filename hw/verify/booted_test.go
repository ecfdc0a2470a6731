package verify

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
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

func TestBootEvents(t *testing.T) {
	kernel := policy.BootPattern{RTMR: 2, Type: "EV_IPL", Digest: digestOf("the kernel's bytes")}
	initrd := policy.BootPattern{RTMR: 2, Digest: digestOf("the initrd")}
	line := policy.BootPattern{RTMR: 2, Text: commandLine}
	words := policy.BootPattern{RTMR: 2, Words: []string{"roothash=abcd", "ro"}}
	may := func(p policy.BootPattern) policy.BootPattern { p.Optional = true; return p }
	for name, c := range map[string]struct {
		commandLine, initrd string
		events              []policy.BootPattern
		fits                bool
	}{
		"as it is":                  {commandLine, "the initrd", []policy.BootPattern{kernel, line, initrd}, true},
		"by words":                  {commandLine, "the initrd", []policy.BootPattern{kernel, words, initrd}, true},
		"words of another line":     {commandLine + " quiet", "the initrd", []policy.BootPattern{kernel, words, initrd}, true},
		"another line":              {commandLine + " init=/bin/sh", "the initrd", []policy.BootPattern{kernel, line, initrd}, false},
		"another root hash":         {strings.Replace(commandLine, "abcd", "abce", 1), "the initrd", []policy.BootPattern{kernel, words, initrd}, false},
		"a root hash and more":      {strings.Replace(commandLine, "abcd", "abcde", 1), "the initrd", []policy.BootPattern{kernel, words, initrd}, false},
		"another initrd":            {commandLine, "another initrd", []policy.BootPattern{kernel, words, initrd}, false},
		"another initrd, allowed":   {commandLine, "another initrd", []policy.BootPattern{kernel, words, may(initrd), {RTMR: 2, Digest: digestOf("another initrd")}}, true},
		"one that must is not":      {commandLine, "the initrd", []policy.BootPattern{kernel, words, initrd, {RTMR: 2, Text: "more"}}, false},
		"one that may is not":       {commandLine, "the initrd", []policy.BootPattern{kernel, words, initrd, may(policy.BootPattern{RTMR: 2, Text: "more"})}, true},
		"one too many in the log":   {commandLine, "the initrd", []policy.BootPattern{words, initrd}, false},
		"right, of another type":    {commandLine, "the initrd", []policy.BootPattern{{RTMR: 2, Type: "EV_ACTION", Digest: kernel.Digest}, words, initrd}, false},
		"any, as the log says":      {commandLine, "another initrd", []policy.BootPattern{kernel, words, {RTMR: 2, Type: "EV_EVENT_TAG", Any: true}}, true},
		"any of another type":       {commandLine, "another initrd", []policy.BootPattern{kernel, words, {RTMR: 2, Type: "EV_ACTION", Any: true}}, false},
		"right, in another order":   {commandLine, "the initrd", []policy.BootPattern{initrd, line, kernel}, true},
		"right, of another's RTMR1": {commandLine, "the initrd", []policy.BootPattern{kernel, words, initrd, {RTMR: 1, Text: commandLine}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sim.Config{BootLog: grubBoot(c.commandLine, c.initrd)})
			w.launch(idOne, "one", "/bin/one")
			bundle, opts := encode(t, w.evidence(idOne)), w.options()
			opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
			boot := &opts.Policy.Boot[0]
			boot.RTMR2, boot.Events = nil, c.events
			r := appraiseT(t, bundle, opts)
			f := w.files([64]byte{})
			bare, err := AppraiseQuote(context.Background(), f, Options{TrustRoots: w.roots(), Policy: opts.Policy})
			if err != nil {
				t.Fatal(err)
			}
			if c.fits {
				expect(t, r, Trusted)
				expect(t, bare, Trusted)
				return
			}
			expect(t, r, NotTrusted, StepBootValues)
			expect(t, bare, NotTrusted, StepBootValues)
			if s := r.Step(StepBootValues); !strings.Contains(s.Detail, "event") || len(s.Compared) < 4 {
				t.Errorf("%+v", s)
			}
			// without its log nothing is known of a boot that a policy knows by
			// events
			bare, err = AppraiseQuote(context.Background(), replay.Files{Quote: f.Quote}, Options{TrustRoots: w.roots(), Policy: opts.Policy})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, bare, NotTrusted, StepBootValues)
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
	opts.Policy = policyOf(t, first)
	if !opts.Policy.Boot[0].OSLog {
		t.Error("the policy made doesn't allow the log that was there")
	}
	expect(t, appraiseT(t, bundle, opts), Trusted)
	opts.Policy.Boot[0].OSLog = false
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
		opts.Policy = &policy.Policy{Boot: []policy.BootValues{bootOf(appraiseFiles(t, good.files(hw.ReportData{}), opts))}}
		known := &opts.Policy.Boot[0]
		separator := digestOf("\x00\x00\x00\x00")
		switch register { // the others are known by value
		case 0:
			known.RTMR0, known.Events = nil, []policy.BootPattern{{RTMR: 0, Digest: separator}}
		case 1:
			known.RTMR1, known.Events = nil, []policy.BootPattern{{RTMR: 1, Digest: separator}}
		}
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
		for _, known.OSLog = range []bool{false, true} {
			r := appraiseFiles(t, f, opts)
			t.Run(member, func(t *testing.T) { expect(t, r, NotTrusted, StepBootValues) })
			if s := r.Step(StepBootLog); s.Outcome != Pass {
				t.Errorf("%s: %+v", member, s)
			}
		}
	}
}
