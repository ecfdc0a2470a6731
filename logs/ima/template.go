package ima

import (
	"encoding/binary"
	"errors"
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
