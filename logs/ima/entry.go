package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs/alg"
)

// Entry is one entry of the kernel's integrity measurement log
// (Documentation/security/IMA-templates.rst). It is good until the reader
// moves on.
type Entry struct {
	PCR       uint32 // 10, or what the policy says; 2 on kernels patched for RTMR2
	Alg       alg.ID // of the template hash
	Violation bool   // template hash all zero: the register got 0xFF instead, and no field is proved

	// Matches says that the template hash was recomputed from the fields
	// and agrees; false too where nobody asked for it (IMAReader.Check).
	Matches bool

	hash     [64]byte
	template string
	fields   string // "d-ng|n-ng", "" where unknown
	data     []byte // fields: text, or template data
	binary   bool
	oldForm  bool // template "ima"

	scratch []byte // what templateData gave last
}

// TemplateHash is the digest of the template data as the log has it.
func (e *Entry) TemplateHash() []byte { return e.hash[:e.Alg.Size()] }

// Template is the template's name, or its field list where it has none.
func (e *Entry) Template() string { return e.template }

// Field is one field of an entry, as the ASCII log shows it.
type Field struct{ ID, Text string }

// Fields are the entry's fields in order; one field "raw" (ASCII as it
// stands, binary as hex) where the template is unknown or doesn't fit.
func (e *Entry) Fields() []Field {
	var fields []Field
	err := e.eachField(func(id string, kind fieldKind, raw []byte) error {
		text := string(raw)
		if e.binary && (e.oldForm && id == "n") {
			text = string(raw)
		} else if e.binary {
			text = textFromData(kind, raw)
		}
		fields = append(fields, Field{id, text})
		return nil
	})
	if err == nil {
		return fields
	}
	if e.binary {
		return []Field{{"raw", hex.EncodeToString(e.data)}}
	}
	return []Field{{"raw", string(e.data)}}
}

// String is the entry's line in the ASCII log, without its newline.
func (e *Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%2d %x %s", e.PCR, e.TemplateHash(), e.template)
	for _, f := range e.Fields() {
		b.WriteByte(' ')
		b.WriteString(f.Text)
	}
	return b.String()
}

// CgroupPath is the cgroup of the process that caused the entry, in the
// kernel's word for it (with underscores for spaces), false where the template
// has none. A cgroup's bare name (ima-dep-cgn) doesn't count: a
// container can name a cgroup below its own as it likes.
func (e *Entry) CgroupPath() ([]byte, bool) {
	data := e.data
	for list, more := e.fields, true; more; {
		var id string
		id, list, more = strings.Cut(list, "|")
		raw, rest, err := e.cutField(id, !more, data)
		if err != nil {
			return nil, false
		}
		if id == "cg-path" || id == "cgpath" {
			if e.binary {
				raw = bytes.TrimSuffix(raw, []byte{0})
			}
			return raw, true
		}
		data = rest
	}
	return nil, false
}

// BootAggregate says whether it is the entry with which the kernel begins its
// list (security/integrity/ima/ima_init.c), by its name: a later file can be
// called the same. Its bytes begin as no program, script or archive does (with a
// length below 0x50, three zeros), so that the digest is of nothing that could run.
func (e *Entry) BootAggregate() bool {
	const longest = 0x50
	data, err := e.AppendTemplateData(nil)
	if err != nil || e.oldForm || len(data) < 4 {
		return false
	}
	if n := binary.LittleEndian.Uint32(data); n == 0 || n > longest {
		return false
	}
	for _, f := range e.Fields() {
		if f.ID == "n" || f.ID == "n-ng" {
			return f.Text == "boot_aggregate" && !e.Violation
		}
	}
	return false
}

// parseText reads one line of an ASCII log, without its newline.
func (e *Entry) parseText(line []byte) error {
	for len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	word, rest, _ := cutSpace(line)
	pcr, ok := decimal(word, 255)
	if !ok {
		return errNoPCR
	}
	word, rest, _ = cutSpace(rest)
	alg, ok := alg.OfSize(len(word) / 2)
	if !ok || len(word)%2 != 0 {
		return errNoHash
	}
	if _, err := hex.Decode(e.hash[:], word); err != nil {
		return errNoHash
	}
	name, rest, ok := cutSpace(rest)
	if len(name) == 0 || !ok {
		return errNoTemplate
	}
	e.set(uint32(pcr), alg, name, rest)
	e.binary = false
	return nil
}

func cutSpace(b []byte) (word, rest []byte, ok bool) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:], true
	}
	return b, nil, false
}

func (e *Entry) set(pcr uint32, alg alg.ID, template, data []byte) {
	e.PCR, e.Alg, e.data, e.Matches = pcr, alg, data, false
	e.Violation = isZero(e.TemplateHash())
	if e.template != string(template) { // most logs have one template: no allocation per entry
		e.template = string(template)
		e.fields = fieldList(e.template)
		e.oldForm = e.template == templateIMA
	}
}

func isZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
