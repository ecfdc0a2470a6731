package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// Errors of entries carry no details: a hostile log is full of such entries, and each error
// would cost more than its line.
var (
	errFields        = errors.New("the fields must fit the template")
	errUnknownFields = errors.New("the template's fields are unknown")
	errNoPCR         = errors.New("a line must begin with a register number")
	errNoHash        = errors.New("the template hash must have 40, 64, 96 or 128 hex digits")
	errNoTemplate    = errors.New("a template must follow the template hash")
	errLongLine      = errors.New("a line or record must have at most 1 MiB")
)

// fieldKind is how the kernel hashes and shows a field of a template
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
	templateIMA = "ima" // the oldest template, with rules of its own
	imaDigest   = 20    // bytes of its digest
	imaNameMax  = 255   // bytes of its name, which is hashed with zeros up to 256
)

// fieldList is a template's fields, separated by "|". A kernel with ima_template_fmt= on
// its command line writes that list instead of a name. It is "" where a field is
// unknown: such entries are kept raw.
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

// cutField cuts the next field's raw form off data. In ASCII the last field is all that is
// left: kernels write spaces in names as underscores, but other writers of logs may not.
func (e *Entry) cutField(id string, last bool, data []byte) (field, rest []byte, err error) {
	if !e.binary {
		if last {
			return data, nil, nil
		}
		field, rest, ok := cutSpace(data)
		if !ok {
			return nil, nil, errFields
		}
		return field, rest, nil
	}
	if e.oldForm && id == "d" {
		if len(data) < imaDigest {
			return nil, nil, errFields
		}
		return data[:imaDigest], data[imaDigest:], nil
	}
	if len(data) < 4 {
		return nil, nil, errFields
	}
	n := binary.LittleEndian.Uint32(data)
	if data = data[4:]; uint64(n) > uint64(len(data)) {
		return nil, nil, errFields
	}
	if last && int(n) != len(data) {
		return nil, nil, errFields
	}
	return data[:n], data[n:], nil
}

// eachField calls f with each field's raw form, in order.
func (e *Entry) eachField(f func(id string, kind fieldKind, raw []byte) error) error {
	if e.fields == "" {
		return errUnknownFields
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
			return err
		}
		data = rest
	}
	return nil
}

// AppendTemplateData appends the bytes that the kernel hashed for this entry: each field
// after its length as a little-endian u32. For the template "ima" they are the digest and
// the name, without lengths, and zeros up to 256 bytes
// (ima_calc_field_array_hash_tfm in security/integrity/ima/ima_crypto.c). It fails where
// the fields are unknown or don't fit the template.
func (e *Entry) AppendTemplateData(b []byte) ([]byte, error) {
	if e.binary && !e.oldForm {
		return append(b, e.data...), nil
	}
	if size := len(b) + len(e.data) + 64; size > cap(b) { // in bytes most fields are shorter than as text; lengths are added
		b = append(make([]byte, 0, max(size, cap(b)+cap(b)/4)), b...) // a quarter more, because entries may grow
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

// templateData is valid until the next call: a reader's entries share one buffer.
func (e *Entry) templateData() ([]byte, error) {
	data, err := e.AppendTemplateData(e.scratch[:0])
	e.scratch = data
	return data, err
}

func (e *Entry) appendOld(b []byte, id string, raw []byte) ([]byte, error) {
	if id == "d" && e.binary {
		return append(b, raw...), nil
	}
	if id == "d" {
		return appendHex(b, raw)
	}
	if len(raw) > imaNameMax {
		return b, errFields
	}
	var padded [imaNameMax + 1]byte
	copy(padded[:], raw)
	return append(b, padded[:]...), nil
}

// appendFromText appends the bytes that the ASCII form of a field shows.
func appendFromText(b []byte, kind fieldKind, text []byte) ([]byte, error) {
	switch kind {
	case fieldText:
		return append(append(b, text...), 0), nil
	case fieldDigest, fieldHex:
		return appendHex(b, text)
	case fieldAlgoDigest:
		if len(text) == 0 {
			return b, nil
		}
		algo := bytes.LastIndexByte(text, ':')
		b = append(append(b, text[:max(algo, 0)]...), ':', 0)
		return appendHex(b, text[algo+1:])
	case fieldU32, fieldU16:
		n, ok := decimal(text, 1<<32-1)
		if !ok || kind == fieldU16 && n > 1<<16-1 {
			return b, errFields
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		if kind == fieldU32 {
			b = binary.LittleEndian.AppendUint16(b, uint16(n>>16))
		}
		return b, nil
	}
	return b, errUnknownFields
}

func appendHex(b, text []byte) ([]byte, error) {
	b, err := hex.AppendDecode(b, text)
	if err != nil {
		return b, errFields
	}
	return b, nil
}

// decimal reads a decimal number up to limit.
func decimal(b []byte, limit uint64) (uint64, bool) {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > limit {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, len(b) > 0 && n <= limit
}

// textFromData writes a field of a binary log as the ASCII log does.
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
