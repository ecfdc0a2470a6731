package verify

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
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
	kernel := BootPattern{RTMR: 2, Type: "EV_IPL", Digest: digestOf("the kernel's bytes")}
	initrd := BootPattern{RTMR: 2, Digest: digestOf("the initrd")}
	line := BootPattern{RTMR: 2, Text: commandLine}
	words := BootPattern{RTMR: 2, Words: []string{"roothash=abcd", "ro"}}
	may := func(p BootPattern) BootPattern { p.Optional = true; return p }
	for name, c := range map[string]struct {
		commandLine, initrd string
		events              []BootPattern
		fits                bool
	}{
		"as it is":                  {commandLine, "the initrd", []BootPattern{kernel, line, initrd}, true},
		"by words":                  {commandLine, "the initrd", []BootPattern{kernel, words, initrd}, true},
		"words of another line":     {commandLine + " quiet", "the initrd", []BootPattern{kernel, words, initrd}, true},
		"another line":              {commandLine + " init=/bin/sh", "the initrd", []BootPattern{kernel, line, initrd}, false},
		"another root hash":         {strings.Replace(commandLine, "abcd", "abce", 1), "the initrd", []BootPattern{kernel, words, initrd}, false},
		"a root hash and more":      {strings.Replace(commandLine, "abcd", "abcde", 1), "the initrd", []BootPattern{kernel, words, initrd}, false},
		"another initrd":            {commandLine, "another initrd", []BootPattern{kernel, words, initrd}, false},
		"another initrd, allowed":   {commandLine, "another initrd", []BootPattern{kernel, words, may(initrd), {RTMR: 2, Digest: digestOf("another initrd")}}, true},
		"one that must is not":      {commandLine, "the initrd", []BootPattern{kernel, words, initrd, {RTMR: 2, Text: "more"}}, false},
		"one that may is not":       {commandLine, "the initrd", []BootPattern{kernel, words, initrd, may(BootPattern{RTMR: 2, Text: "more"})}, true},
		"one too many in the log":   {commandLine, "the initrd", []BootPattern{words, initrd}, false},
		"right, of another type":    {commandLine, "the initrd", []BootPattern{{RTMR: 2, Type: "EV_ACTION", Digest: kernel.Digest}, words, initrd}, false},
		"any, as the log says":      {commandLine, "another initrd", []BootPattern{kernel, words, {RTMR: 2, Type: "EV_EVENT_TAG", Any: true}}, true},
		"any of another type":       {commandLine, "another initrd", []BootPattern{kernel, words, {RTMR: 2, Type: "EV_ACTION", Any: true}}, false},
		"right, in another order":   {commandLine, "the initrd", []BootPattern{initrd, line, kernel}, true},
		"right, of another's RTMR1": {commandLine, "the initrd", []BootPattern{kernel, words, initrd, {RTMR: 1, Text: commandLine}}, false},
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
			// Without its log nothing is known of a boot that is known by events.
			bare, err = AppraiseQuote(context.Background(), Files{Quote: f.Quote}, Options{TrustRoots: w.roots(), Policy: opts.Policy})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, bare, NotTrusted, StepBootValues)
		})
	}
}

// TestWordsMustBeProved: data that the digest doesn't cover say nothing.
func TestWordsMustBeProved(t *testing.T) {
	p := BootPattern{RTMR: 2, Words: []string{"roothash=abcd"}}
	only := p
	only.OnlyWords = true
	for name, c := range map[string]struct {
		hashed, data string
		fits         bool
	}{
		"covered":          {"roothash=abcd", "roothash=abcd", true},
		"with its NUL":     {"roothash=abcd\x00", "roothash=abcd\x00", true},
		"without its NUL":  {"roothash=abcd", "roothash=abcd\x00", true},
		"labelled":         {"x roothash=abcd", "kernel_cmdline: x roothash=abcd\x00", true},
		"labelled by word": {"x roothash=abcd", "grub_kernel_cmdline x roothash=abcd", true},
		"wide":             {string(wide("x roothash=abcd y")), string(wide("x roothash=abcd y")), true},
		"not covered":      {"roothash=ffff", "roothash=abcd", false},
		"in the label":     {"x", "roothash=abcd: x", false},
		"no word":          {"xroothash=abcd", "xroothash=abcd", false},
		"another space":    {"x\u2003roothash=abcd", "x\u2003roothash=abcd", false},
		// To the EFI stub, which reads UTF-16, this begins with six foreign characters.
		"mixed":          {"roothash=abcd " + string(wide(" init=/evil")), "roothash=abcd " + string(wide(" init=/evil")), false},
		"behind its NUL": {"x\x00 roothash=abcd", "x\x00 roothash=abcd", false},
		"behind, wide":   {string(wide("x\x00 roothash=abcd")), string(wide("x\x00 roothash=abcd")), false},
	} {
		e := boot.Event{MR: 3, Type: boot.EvIPL, Digest: sha512.Sum384([]byte(c.hashed)), Data: []byte(c.data)}
		if got := p.fits(&e); got != c.fits {
			t.Errorf("%s: %v", name, got)
		}
		if got := only.fits(&e); got != (c.fits && !strings.Contains(c.hashed, "x")) {
			t.Errorf("%s, and no other: %v", name, got)
		}
	}
}

// TestRealCommandLine: what grub measured on a real machine is proved.
func TestRealCommandLine(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testing/testdata/ccel/ccel_data.dat"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := boot.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	p := BootPattern{RTMR: 2, Type: "EV_IPL", Words: []string{"init=/usr/lib/systemd/systemd", "rootwait"}}
	for _, e := range log.UnverifiedEvents() {
		if strings.HasPrefix(e.Detail(), "kernel_cmdline: ") && p.fits(&e) {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d command lines found", found)
	}
}

func TestBootPatternsAreChecked(t *testing.T) {
	d := `"` + strings.Repeat("ab", 48) + `"`
	head := "[[boot]]\nmrtd=" + d + "\nrtmr0=" + d + "\nrtmr1=" + d + "\n"
	for text, fine := range map[string]bool{
		"[[boot.events]]\nrtmr=2\ntext=\"x\"":                                 true,
		"[[boot.events]]\nrtmr=2\nwords=[\"roothash=x\"]":                     true,
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"":                            false, // under no digest
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nany=true":                  false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nany=true": true,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\ntext=\"x\"\nany=true":      false,
		"[[boot.events]]\nrtmr=2\nwords=[\"ro\"]\nonly_words=true":            true,
		"[[boot.events]]\nrtmr=2\ntype=\"EV_IPL\"\nonly_words=true":           false,
		"[[boot.events]]\nrtmr=2\ntext=\"x\"\noptional=true":                  false,
		"[[boot.events]]\nrtmr=1\ntext=\"x\"":                                 false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=3\ntext=\"x\"":                false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2":                            false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\nwords=[\"a b\"]":           false,
		"rtmr2=" + d + "\n[[boot.events]]\nrtmr=2\nkernel=\"x\"":              false,
		"rtmr2=" + d + "\nos_log=true":                                        true,
		"rtmr2=" + d + "\n[container.launch]\ncapabilities=[\"net_raw\"]":     false,
		"rtmr2=" + d + "\n[container.launch]\ncapabilities=[]":                true,
		"rtmr2=" + d + "\n[[container.launch.mounts]]\ntype=\"bind\"":         false,
		"rtmr2=" + d + "\n[container.launch]\nargument=[]":                    false,
	} {
		if _, err := ParsePolicy([]byte(head + text)); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestOSLogPolicy: where IMA extends RTMR2, a policy knows what the boot left,
// and says that more may come.
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

// TestBootHiddenInOSLog: a host that boots something more, after all that the
// policy knows, can't have it shown as what IMA extended.
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
	// In files entries that are not what their hashes say are a warning.
	f := bad.files(hw.ReportData{})
	opts.Nonce = nil
	f.BootLog, f.IMALog = log, append(forged, line...)
	r := appraiseFiles(t, f, opts)
	expect(t, r, NotTrusted, StepBootValues)
	if s := r.Step(StepBootLog); s.Outcome != Warn {
		t.Errorf("bare: %+v", s)
	}
}

// TestBootHiddenInRuntimeLog: the records of a runtime log can be of any register.
// Those of the boot's are no part of the boot that a policy knows.
func TestBootHiddenInRuntimeLog(t *testing.T) {
	for register, member := range []string{"rtmr0", "rtmr1", "rtmr2"} {
		good := newWorld(t, sim.Config{BootLog: grubBoot(commandLine, "the initrd")})
		opts := good.options()
		opts.Nonce = nil
		opts.Policy = &Policy{Boot: []BootValues{bootOf(appraiseFiles(t, good.files(hw.ReportData{}), opts))}}
		values := &opts.Policy.Boot[0]
		separator := digestOf("\x00\x00\x00\x00")
		switch register { // the others are known by value
		case 0:
			values.RTMR0, values.Events = nil, []BootPattern{{RTMR: 0, Digest: separator}}
		case 1:
			values.RTMR1, values.Events = nil, []BootPattern{{RTMR: 1, Digest: separator}}
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
		for _, values.OSLog = range []bool{false, true} {
			r := appraiseFiles(t, f, opts)
			t.Run(member, func(t *testing.T) { expect(t, r, NotTrusted, StepBootValues) })
			if s := r.Step(StepBootLog); s.Outcome != Pass {
				t.Errorf("%s: %+v", member, s)
			}
		}
	}
}

func TestLaunchFacts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"arguments":["/bin/one","-x"],"root_read_only":true,
		"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"]},
		"mounts":[{"destination":"/data","type":"bind","source":"/srv/data","options":["ro"]},{"destination":"/proc","type":"proc"}]}`)
	w.own(idOne, logs.OpImage, `{"reference":"r:1","digest":"`+imageDigestOf("one")+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := appraiseT(t, bundle, opts)
	for text, fine := range map[string]bool{
		`arguments=["/bin/one","-x"]`:           true,
		`arguments=["/bin/one"]`:                false,
		`arguments=["-x","/bin/one"]`:           false,
		`arguments=[]`:                          false,
		`capabilities=["CAP_KILL","CAP_CHOWN"]`: true,
		`capabilities=["CAP_KILL"]`:             false,
		`capabilities=[]`:                       false,
		`mounts=[{destination="/data",source="/srv/data",options=["ro"]},{destination="/proc"}]`: true,
		`mounts=[{destination="/data",source="/srv/other"},{destination="/proc"}]`:               false,
		`mounts=[{destination="/data",options=["rw"]},{destination="/proc"}]`:                    false,
		`mounts=[{destination="/data"}]`:                                                         false,
		`mounts=[]`:                                                                              false,
		`match={root_read_only=true}`:                                                            true,
		`match={root_read_only=false}`:                                                           false,
		`match={terminal=false}`:                                                                 true, // what is empty is left out
		`match={devices=[],sysctls={},seccomp=""}`:                                               true,
		`match={terminal=true}`:                                                                  false,
	} {
		p := policyOf(t, fits)
		p.Container.LaunchDigests = nil
		with, err := ParsePolicy([]byte("[container.launch]\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		p.Container.Launch = with.Container.Launch
		opts.Policy = p
		r := appraiseT(t, bundle, opts)
		t.Run(text, func(t *testing.T) {
			if fine {
				expect(t, r, Trusted)
			} else {
				expect(t, r, NotTrusted, StepCallerValues)
			}
		})
	}
	// A launch too large for an event shows nothing to hold a policy against.
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"whole":"`+strings.Repeat("ab", 48)+`"}`)
	w.own(idOne, logs.OpImage, `{"reference":"r:1","digest":"`+imageDigestOf("one")+`"}`)
	opts.Policy = policyOf(t, fits)
	opts.Policy.Container.LaunchDigests = nil
	opts.Policy.Container.Launch = &LaunchPolicy{Capabilities: []string{}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepCallerValues)
	opts.Policy.Container.Launch = nil
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	opts.Policy.Forbidden = []EventPattern{{Operation: logs.OpLaunch, Match: map[string]any{"root_read_only": false}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	opts.Policy.Forbidden, opts.Policy.Required = nil, []EventPattern{{Operation: logs.OpLaunch, Match: map[string]any{"all_devices": false}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	opts.Policy.Required = nil
	opts.Policy.Forbidden = []EventPattern{{Operation: logs.OpImage, Match: map[string]any{"reference": "r:2"}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
}
