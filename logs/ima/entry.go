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
// (Documentation/security/IMA-templates.rst). It is valid until the reader's next entry.
type Entry struct {
	PCR       uint32 // 10, or what the IMA policy says; 2 on kernels that are patched for RTMR2
	Alg       alg.ID // of the template hash
	Violation bool   // the template hash is all zero: 0xFF bytes extended the register, and no field is proved

	// Matches reports that the template hash was recomputed from the fields and
	// agrees. It is false unless Reader.Check is set.
	matches bool

	hash     [64]byte
	template string
	fields   string // "d-ng|n-ng"; "" where a field is unknown
	data     []byte // the fields: text, or template data
	binary   bool
	oldForm  bool // template "ima"

	scratch []byte // the buffer of templateData
}

// TemplateHash is the digest of the template data, as the log shows it. It has Alg.Size()
// bytes and is valid until the reader's next entry.
func (e *Entry) TemplateHash() []byte { return e.hash[:e.Alg.Size()] }

// Template is the template's name ("ima-ng"), or its list of fields ("d-ng|n-ng") where it
// has no name.
func (e *Entry) Template() string { return e.template }

// Field is one field of an entry, as the ASCII log shows it.
type Field struct{ ID, Text string }

// Fields are the entry's fields in the template's order. An entry of an unknown template,
// or one that doesn't fit its template, has one field "raw": its text, or its data in
// hex.
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

// String is the entry's line in the ASCII log, without the newline.
func (e *Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%2d %x %s", e.PCR, e.TemplateHash(), e.template)
	for _, f := range e.Fields() {
		b.WriteByte(' ')
		b.WriteString(f.Text)
	}
	return b.String()
}

// CgroupPath is the cgroup of the process that caused the entry, as the kernel writes it,
// with underscores for spaces. It is false where the template has no path. A cgroup's
// bare name (template ima-dep-cgn) doesn't count, because a container can give any name
// to a cgroup below its own.
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

// BootAggregate reports whether the entry is like the one with which the kernel begins its
// list (security/integrity/ima/ima_init.c). It looks at the name, which a later file can
// have, too, and requires that the template data begin with a length below 0x50 and three
// zero bytes, as no program, script or archive does: what was hashed can't be executed.
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

// parseText reads one line of an ASCII log, without its newline: register number,
// template hash, template name, and the fields.
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
	e.PCR, e.Alg, e.data, e.matches = pcr, alg, data, false
	e.Violation = isZero(e.TemplateHash())
	if e.template != string(template) { // most logs have one template: this saves an allocation per entry
		e.template = string(template)
		e.fields = fieldList(e.template)
		e.oldForm = e.template == templateIMA
	}
}

func isZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
