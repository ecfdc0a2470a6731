package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// fieldKind is how the kernel keeps and shows a template field
// (security/integrity/ima/ima_template_lib.c).
type fieldKind byte

const (
	fieldUnknown    fieldKind = iota
	fieldDigest               // bare digest; ASCII: hex
	fieldAlgoDigest           // "algo:" NUL digest; ASCII: algo:hex
	fieldText                 // text NUL; ASCII: text, spaces as underscores
	fieldHex                  // bytes; ASCII: hex
	fieldU32                  // little-endian; ASCII: decimal
	fieldU16
)

func kindOf(id string) fieldKind {
	switch id {
	case "d":
		return fieldDigest
	case "d-ng", "d-ngv2", "d-modsig":
		return fieldAlgoDigest
	case "n", "n-ng", "xattrnames", "dep", "cg-path", "cgpath", "cgn":
		return fieldText
	case "sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues":
		return fieldHex
	case "iuid", "igid":
		return fieldU32
	case "imode":
		return fieldU16
	}
	return fieldUnknown
}

const (
	templateIMA = "ima" // the oldest form, with rules of its own
	imaDigest   = 20    // its digest field
	imaNameMax  = 255   // its name field, hashed with padding to one more
)

// fieldList gives a template's fields, separated by "|". A kernel told
// ima_template_fmt= writes the list itself where the name stands. "" where a
// field is unknown: such entries are kept raw.
func fieldList(template string) string {
	switch template {
	case templateIMA:
		return "d|n"
	case "ima-ng":
		return "d-ng|n-ng"
	case "ima-ngv2":
		return "d-ngv2|n-ng"
	case "ima-sig":
		return "d-ng|n-ng|sig"
	case "ima-sigv2":
		return "d-ngv2|n-ng|sig"
	case "ima-buf":
		return "d-ng|n-ng|buf"
	case "ima-modsig":
		return "d-ng|n-ng|sig|d-modsig|modsig"
	case "evm-sig":
		return "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"
	case "ima-cgpath":
		return "dep|cg-path|d-ng|n-ng"
	case "ima-dep-cgn":
		return "dep|cgn|d-ng|n-ng"
	}
	for rest, more := template, true; more; {
		var id string
		if id, rest, more = strings.Cut(rest, "|"); kindOf(id) == fieldUnknown {
			return ""
		}
	}
	return template
}

// cutField takes the next field's raw form off data. In ASCII the last field
// takes all that is left: kernels turn spaces in names into underscores, but
// logs rebuilt by others may not.
func (e *IMAEntry) cutField(id string, last bool, data []byte) (field, rest []byte, err error) {
	if !e.binary {
		if last {
			return data, nil, nil
		}
		field, rest, ok := cutSpace(data)
		if !ok {
			return nil, nil, fmt.Errorf("no field after %s", id)
		}
		return field, rest, nil
	}
	if e.oldForm && id == "d" {
		if len(data) < imaDigest {
			return nil, nil, fmt.Errorf("%d bytes are too few for field d", len(data))
		}
		return data[:imaDigest], data[imaDigest:], nil
	}
	if len(data) < 4 {
		return nil, nil, fmt.Errorf("no length of field %s", id)
	}
	n := binary.LittleEndian.Uint32(data)
	if data = data[4:]; uint64(n) > uint64(len(data)) {
		return nil, nil, fmt.Errorf("field %s announces %d bytes, %d are there", id, n, len(data))
	}
	if last && int(n) != len(data) {
		return nil, nil, fmt.Errorf("%d bytes behind the last field", len(data)-int(n))
	}
	return data[:n], data[n:], nil
}

// eachField calls f with the fields' raw forms in order.
func (e *IMAEntry) eachField(f func(id string, kind fieldKind, raw []byte) error) error {
	if e.fields == "" {
		return fmt.Errorf("template %q has unknown fields", e.template)
	}
	data := e.data
	for list, more := e.fields, true; more; {
		var id string
		id, list, more = strings.Cut(list, "|")
		raw, rest, err := e.cutField(id, !more, data)
		if err != nil {
			return err
		}
		if err := f(id, kindOf(id), raw); err != nil {
			return fmt.Errorf("field %s: %w", id, err)
		}
		data = rest
	}
	return nil
}

// AppendTemplateData appends the bytes that the kernel hashed for this entry:
// each field preceded by its length as a little-endian u32, and for the template
// "ima" the bare digest and the name, padded with zeros to 256 bytes
// (ima_calc_field_array_hash_tfm).
func (e *IMAEntry) AppendTemplateData(b []byte) ([]byte, error) {
	if e.binary && !e.oldForm {
		return append(b, e.data...), nil
	}
	err := e.eachField(func(id string, kind fieldKind, raw []byte) (err error) {
		if e.oldForm {
			b, err = e.appendOld(b, id, raw)
			return err
		}
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		if b, err = appendFromText(b, kind, raw); err == nil {
			binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		}
		return err
	})
	return b, err
}

func (e *IMAEntry) appendOld(b []byte, id string, raw []byte) ([]byte, error) {
	if id == "d" && e.binary {
		return append(b, raw...), nil
	}
	if id == "d" {
		return hex.AppendDecode(b, raw)
	}
	if len(raw) > imaNameMax {
		return b, fmt.Errorf("a name of %d bytes, more than %d", len(raw), imaNameMax)
	}
	b = append(b, raw...)
	return append(b, make([]byte, imaNameMax+1-len(raw))...), nil
}

// appendFromText turns the ASCII form of a field back into what it shows.
func appendFromText(b []byte, kind fieldKind, text []byte) ([]byte, error) {
	switch kind {
	case fieldText:
		return append(append(b, text...), 0), nil
	case fieldDigest, fieldHex:
		return hex.AppendDecode(b, text)
	case fieldAlgoDigest:
		if len(text) == 0 {
			return b, nil
		}
		algo := bytes.LastIndexByte(text, ':')
		b = append(append(b, text[:max(algo, 0)]...), ':', 0)
		return hex.AppendDecode(b, text[algo+1:])
	case fieldU32, fieldU16:
		bits := 32
		if kind == fieldU16 {
			bits = 16
		}
		n, err := strconv.ParseUint(string(text), 10, bits)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		if kind == fieldU32 {
			b = binary.LittleEndian.AppendUint16(b, uint16(n>>16))
		}
		return b, err
	}
	return b, fmt.Errorf("of an unknown kind")
}

// textFromData shows a field of a binary log as the ASCII log does.
func textFromData(kind fieldKind, data []byte) string {
	switch kind {
	case fieldText:
		return string(bytes.TrimSuffix(data, []byte{0}))
	case fieldAlgoDigest:
		if algo, digest, ok := bytes.Cut(data, []byte{':', 0}); ok && len(algo) > 0 {
			return string(algo) + ":" + hex.EncodeToString(digest)
		} else if ok {
			return hex.EncodeToString(digest)
		}
	case fieldU32, fieldU16:
		if len(data) == 4 {
			return strconv.FormatUint(uint64(binary.LittleEndian.Uint32(data)), 10)
		}
		if len(data) == 2 {
			return strconv.FormatUint(uint64(binary.LittleEndian.Uint16(data)), 10)
		}
	}
	return hex.EncodeToString(data)
}
