// Package canonical answers: which JSON has one meaning, and one spelling?
//
// What is hashed, signed or appraised must mean the same to every reader. So this
// package reads JSON (RFC 8259) more strictly than encoding/json/v2 does, on which
// it stands, and writes it in the one form of RFC 8785 (JCS).
//
// Refused on reading, besides what json/v2 refuses (duplicate names, text that is
// not UTF-8, half surrogate pairs, bytes after the value): members that are missing
// or unknown, names that differ in case alone, null, base64 with loose bits, numbers
// that an IEEE double does not hold, and deep nesting. Errors are *Error, and short
// whatever the input is.
package canonical

import (
	"crypto/sha512"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"math"
)

// MaxDepth is how deep objects and arrays may nest, save in CheckForm.
const MaxDepth = 32

// Marshal writes v as RFC 8785 does. Struct tags are those of encoding/json/v2: use
// omitzero for what is left out when false, 0 or nil. A nil slice or map is null. In
// a Go string each byte that is not UTF-8 becomes U+FFFD; raw JSON must be UTF-8. A
// number that an IEEE double does not hold is an error, so that no two values share
// a form.
func Marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v, json.FormatNilSliceAsNull(true), json.FormatNilMapAsNull(true),
		jsontext.AllowInvalidUTF8(true), json.WithMarshalers(validRaw))
	if err == nil {
		err = checkRaw(text)
	}
	if err == nil {
		err = (*jsontext.Value)(&text).Canonicalize()
	}
	if err != nil {
		return nil, explain(err)
	}
	return text, nil
}

// validRaw refuses raw JSON that is not Unicode, which AllowInvalidUTF8 would change.
var validRaw = json.MarshalToFunc(func(_ *jsontext.Encoder, raw jsontext.Value) error {
	if raw != nil { // nil is null
		if err := checkRaw(raw); err != nil {
			return err
		}
	}
	return errors.ErrUnsupported
})

// checkRaw wants JSON that has a form; names in it may differ in case alone.
func checkRaw(text []byte) error {
	return walk(text, anything, rules{depth: math.MaxInt, anyNames: true})
}

// Sum is SHA-384 of v as Marshal writes it.
func Sum(v any) (Digest, error) {
	text, err := Marshal(v)
	if err != nil {
		return Digest{}, err
	}
	return sha512.Sum384(text), nil
}

// Check reports whether text is one JSON value with one meaning.
func Check(text []byte) error {
	return walk(text, anything, rules{depth: MaxDepth})
}

// CheckNames is Check, save that numbers may be of any size and precision.
func CheckNames(text []byte) error {
	return walk(text, anything, rules{depth: MaxDepth, anyNumbers: true})
}

// CheckSpelling is Check, and each string and number must be spelled as RFC 8785
// spells it, so that no bit of a text can change and leave its meaning. White space
// and the order of members are free.
func CheckSpelling(text []byte) error {
	return walk(text, anything, rules{depth: MaxDepth, spelled: true})
}

// Unmarshal reads text, which has one meaning, into v, pointers to structs that each
// take some of its members, or to one value of another type.
//
// Every member that is not tagged omitempty or omitzero must be there, and none is
// unknown, save in a struct with a field of type Open. []byte is standard base64
// (RFC 4648, section 4). The tags within and oneof (LimitsOf, WordsOf) bound values.
func Unmarshal(text []byte, v ...any) error {
	return read(text, v, rules{depth: MaxDepth})
}

// UnmarshalSpelled is Unmarshal, and CheckSpelling of text.
func UnmarshalSpelled(text []byte, v any) error {
	return read(text, []any{v}, rules{depth: MaxDepth, spelled: true})
}

// Decode reads text as encoding/json/v2 does, where members may be missing and unknown,
// and returns an *Error.
func Decode(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return explain(err)
	}
	return nil
}

// Open marks a struct, as a field named _, that may have members which it does not
// know: those of a later version, or those that others read.
type Open struct{}

func read(text []byte, into []any, r rules) error {
	if err := walk(text, shapeOfAll(into), r); err != nil {
		return err
	}
	for _, v := range into {
		if err := Decode(text, v); err != nil {
			return err
		}
	}
	return nil
}
