// Package computed answers: which tables of a policy does a computed boot give?
//
// It writes [firmware.NAME], [system.NAME] and [[boot]] of a policy (cima-policy(5)), each
// value with its origin beside it: the file or the rule that it was computed from. What
// nobody computed stays open in it, and is named.
package computed

import (
	"bytes"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/cmdline"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs/boot/expected"
)

// Firmware is what a firmware image measures as.
type Firmware struct {
	Origin []string // of the values, for people
	MRTD   []Value
}

// Value is a value of a register, and how it comes about.
type Value struct {
	Digest [48]byte
	Why    string
}

// Policy is what is written.
type Policy struct {
	Name      string
	Whole     bool      // begins with cima_policy, and has a name
	Firmware  *Firmware // nil: [firmware.NAME] is not written
	System    bool      // [system.NAME] is written
	Boot      *expected.Boot
	Given     [3]*[48]byte // values of registers that somebody else computed; nil: those of Boot
	Origin    string       // of what is given
	Root      string       // how the root file system is covered; "" for what the line says
	RootWord  string       // the word by which a known initrd's own rule covers it
	HostInput []string     // what the system reads of its host; nil: nobody has looked
}

// Write writes the tables. It fails where a policy with them could not be read.
func (p *Policy) Write() ([]byte, error) {
	w := &writer{p: p}
	if p.Whole {
		w.comment("Reference values that \"cimactl predict boot\" computed before anything ran",
			"(cima-reference-values(7)).")
		w.value("cima_policy", 2)
		w.value("name", p.Name)
	}
	w.notes()
	if p.Firmware != nil {
		w.firmware()
	}
	if p.System {
		if err := w.system(); err != nil {
			return nil, err
		}
	}
	if p.Firmware != nil && p.System {
		w.table("[[boot]]", "")
		w.value("name", p.Name)
		w.value("firmware", p.Name)
		w.value("system", p.Name)
	}
	return w.b.Bytes(), w.check()
}

type writer struct {
	p *Policy
	b bytes.Buffer
}

func (w *writer) comment(lines ...string) {
	for _, l := range lines {
		fmt.Fprintf(&w.b, "# %s\n", oneLine(l))
	}
}

// oneLine keeps text of others within one comment of TOML.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

func (w *writer) table(header, comment string) {
	w.b.WriteByte('\n')
	if comment != "" {
		w.comment(comment)
	}
	fmt.Fprintf(&w.b, "%s\n", header)
}

func (w *writer) value(key string, v any) { fmt.Fprintf(&w.b, "%s = %s\n", key, text(v)) }

// text writes a value: JSON's strings, numbers and arrays are TOML's too, but DEL is
// escaped there.
func text(v any) string {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings, numbers and arrays alone
	}
	return strings.ReplaceAll(string(b), "\x7f", `\u007f`)
}

func (w *writer) notes() {
	if len(w.p.Boot.Notes) > 0 {
		w.b.WriteByte('\n')
		w.comment("What stays open:")
		for _, n := range w.p.Boot.Notes {
			w.comment("- " + n)
		}
	}
}

func (w *writer) firmware() {
	w.table("[firmware."+text(w.p.Name)+"]", "What runs before the boot loader.")
	w.comment(w.p.Firmware.Origin...)
	w.b.WriteString("mrtd = [\n")
	for _, v := range w.p.Firmware.MRTD {
		fmt.Fprintf(&w.b, "  %q,  # %s\n", hex.EncodeToString(v.Digest[:]), oneLine(v.Why))
	}
	w.b.WriteString("]\n")
	w.register(0)
}

// register writes a register: its value where each event is known, else the sequence.
func (w *writer) register(number int) {
	name, events := fmt.Sprint("rtmr", number), w.p.Boot.Registers[number]
	if given := w.p.Given[number]; given != nil {
		w.comment(w.p.Origin)
		w.value(name, hex.EncodeToString(given[:]))
		return
	}
	value, ok := expected.Value(events)
	if ok {
		for _, e := range events {
			c := e.Choices[0]
			w.comment(fmt.Sprintf("%.16x… %s  <- %s", c.Digest, c.What, c.From))
		}
		w.value(name, hex.EncodeToString(value[:]))
		return
	}
	fmt.Fprintf(&w.b, "%s = [\n", name)
	for _, e := range events {
		switch {
		case e.IsKnown():
			c := e.Choices[0]
			fmt.Fprintf(&w.b, "  %q,  # %s  <- %s\n", hex.EncodeToString(c.Digest[:]), oneLine(c.What), oneLine(c.From))
		case e.Many:
			fmt.Fprintf(&w.b, "  %q,  # not computed: any events up to the next digest\n", "*"+e.Kind+"…")
		default:
			fmt.Fprintf(&w.b, "  %q,  # not computed: any one event\n", "*"+e.Kind)
		}
	}
	w.b.WriteString("]\n")
}

func (w *writer) system() error {
	w.table("[system."+text(w.p.Name)+"]", "Boot loader, kernel, initrd and command line.")
	w.register(1)
	w.register(2)
	root, err := w.root()
	if err != nil {
		return err
	}
	if w.p.Boot.Line != "" {
		w.value("line", w.p.Boot.Line)
	}
	w.value("root", root)
	if w.p.RootWord != "" {
		w.value("root_word", w.p.RootWord)
	}
	if w.p.HostInput != nil {
		w.comment("What the system reads of its host, by the word of who wrote this.")
		w.value("host_input", w.p.HostInput)
		return nil
	}
	w.comment("What the system reads of its host that no register covers: of smbios, fw_cfg,",
		"metadata, aml, disk, console, agent; or none. Look at its image.")
	for _, hint := range hostHints(w.p.Boot.Line) {
		w.comment("- " + hint)
	}
	w.value("host_input", "unknown")
	return nil
}

// root is how the root file system is covered: as somebody says, if the line agrees; else
// by what the line says. That there is none but the initrd is not for a line to say.
func (w *writer) root() (string, error) {
	if w.p.Boot.Line == "" {
		if w.p.Root != "" && w.p.Root != cmdline.NotCovered {
			return "", fmt.Errorf("root = %q must come with a command line, and it stays open", w.p.Root)
		}
		w.comment("The command line stays open: nobody knows what covers the root file system.")
		return cmdline.NotCovered, nil
	}
	line, err := cmdline.Read(w.p.Boot.Line)
	if err != nil {
		return "", err
	}
	if opens := line.Opens(); len(opens) > 0 {
		w.comment(fmt.Sprintf("These words let somebody in beside a covered root: %q", opens))
	}
	if w.p.Root != "" {
		if err := line.Covers(w.p.Root, w.p.RootWord); err != nil {
			return "", fmt.Errorf("root = %q, and the line doesn't cover it so: %w", w.p.Root, err)
		}
		return w.p.Root, nil
	}
	var why error
	for _, how := range []string{cmdline.Verity, cmdline.Composefs} {
		if why = errors.Join(why, line.Covers(how, "")); line.Covers(how, "") == nil {
			w.comment("The line says so; it holds if the initrd does as it is told.")
			return how, nil
		}
	}
	w.comment("Nothing on the line covers the root file system: " + strings.ReplaceAll(why.Error(), "\n", "; "))
	if line.Covers(cmdline.Initrd, "") == nil {
		w.comment("If it is the initrd alone, say so by --root initrd.")
	}
	return cmdline.NotCovered, nil
}

// hostHints are what a command line tells of what the system reads.
func hostHints(line string) (hints []string) {
	has := func(word string) bool {
		return slices.ContainsFunc(strings.Fields(line), func(w string) bool { return strings.HasPrefix(w, word) })
	}
	if !has("systemd.import_credentials=no") {
		hints = append(hints, "smbios: systemd imports credentials from SMBIOS under TDX from 262 on, unless the line has systemd.import_credentials=no")
	}
	if has("console=") && !has("systemd.getty_auto=no") {
		hints = append(hints, "console: the line names one, and systemd starts a login there, unless it has systemd.getty_auto=no")
	}
	if !has("cloud-init=disabled") {
		hints = append(hints, "metadata, disk: cloud-init takes keys and scripts, if it is there; cloud-init=disabled stops it")
	}
	if !has("acpi=off") {
		hints = append(hints, "aml: the kernel runs the host's ACPI code, unless it is patched; RTMR0 covers the tables where [firmware] leaves none open")
	}
	return hints
}

// check reads what was written as a policy's.
func (w *writer) check() error {
	head := ""
	if !w.p.Whole {
		head = "cima_policy = 2\n"
	}
	tail := ""
	switch {
	case w.p.Firmware == nil && w.p.System:
		tail = fmt.Sprintf("[firmware.x]\nmrtd = %q\nrtmr0 = %q\n[[boot]]\nname = \"x\"\nfirmware = \"x\"\nsystem = %s\n", strings.Repeat("1", 96), strings.Repeat("1", 96), text(w.p.Name))
	case w.p.Firmware != nil && !w.p.System:
		tail = fmt.Sprintf("[system.x]\nrtmr1 = %q\nrtmr2 = %q\nroot = \"not covered\"\nhost_input = \"unknown\"\n[[boot]]\nname = \"x\"\nfirmware = %s\nsystem = \"x\"\n", strings.Repeat("1", 96), strings.Repeat("1", 96), text(w.p.Name))
	}
	if _, err := policy.Parse("policy", []byte(head+w.b.String()+tail)); err != nil {
		return fmt.Errorf("the policy that was made can't be read: %w", err)
	}
	return nil
}
