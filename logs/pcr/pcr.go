// Package pcr answers: what does a PCR of a TPM hold after events?
//
// A PCR is one number and one value for each bank, that is for each hash algorithm that
// the firmware allocated (TPM 2.0 Library, part 1, section 17). An event of the runtime
// log has a SHA-384 digest, and others' events are shown as that alone. So each bank is
// extended with what follows from that digest: a bank of SHA-384 with the digest itself,
// any other with the bank's own hash of those 48 bytes.
package pcr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Default is the PCR that the runtime log extends unless cimad.toml names another:
// nothing but systemd's stub measures into it, before the operating system starts.
const Default = 13

// Value is what a PCR holds in the banks that a log is replayed in. A zero Value has no
// bank. Values can be compared by ==.
type Value struct {
	has256, has384 bool
	sha256         [32]byte
	sha384         canonical.Digest
}

// WithSHA256 is v with the value of that bank.
func (v Value) WithSHA256(value [32]byte) Value {
	v.has256, v.sha256 = true, value
	return v
}

// WithSHA384 is v with the value of that bank.
func (v Value) WithSHA384(value [48]byte) Value {
	v.has384, v.sha384 = true, value
	return v
}

// SHA256 is the value of that bank; false: v does not have it.
func (v Value) SHA256() ([32]byte, bool) { return v.sha256, v.has256 }

// SHA384 is the value of that bank; false: v does not have it.
func (v Value) SHA384() ([48]byte, bool) { return v.sha384, v.has384 }

// None reports whether v has no bank.
func (v Value) None() bool { return !v.has256 && !v.has384 }

// Extend is the PCR after an event of this digest, in each bank that v has.
func (v Value) Extend(event canonical.Digest) Value {
	if v.has256 {
		own := sha256.Sum256(event[:])
		v.sha256 = sha256.Sum256(append(v.sha256[:], own[:]...))
	}
	if v.has384 {
		v.sha384 = v.sha384.Extend(event)
	}
	return v
}

// Holds reports whether each bank of part, and there is one, is in v with the same value.
// A quote holds one bank of a PCR that has more.
func (v Value) Holds(part Value) bool {
	return !part.None() &&
		(!part.has256 || v.has256 && v.sha256 == part.sha256) &&
		(!part.has384 || v.has384 && v.sha384 == part.sha384)
}

// String names each bank with the beginning of its value.
func (v Value) String() string {
	text := ""
	if v.has256 {
		text = fmt.Sprintf("sha256:%.16x…", v.sha256)
	}
	if v.has384 {
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf("sha384:%.16s…", v.sha384)
	}
	if text == "" {
		return "no bank"
	}
	return text
}

// Form is a Value in JSON: lower-case hex by the bank's name. It must have a bank.
type Form struct {
	SHA256 string            `json:"sha256,omitempty"`
	SHA384 *canonical.Digest `json:"sha384,omitzero"`
}

// Form is v as it stands in an event.
func (v Value) Form() Form {
	var f Form
	if v.has256 {
		f.SHA256 = hex.EncodeToString(v.sha256[:])
	}
	if v.has384 {
		digest := v.sha384
		f.SHA384 = &digest
	}
	return f
}

// Value reads a form.
func (f Form) Value() (v Value, err error) {
	if f.SHA256 != "" {
		b, err := hex.DecodeString(f.SHA256)
		if err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != f.SHA256 {
			return Value{}, fmt.Errorf("sha256 of a PCR must be 64 lower-case hex digits")
		}
		v = v.WithSHA256([32]byte(b))
	}
	if f.SHA384 != nil {
		v = v.WithSHA384(*f.SHA384)
	}
	if v.None() {
		return v, fmt.Errorf("a PCR must have a value for sha256, sha384, or both")
	}
	return v, nil
}

// May says why a PCR can't hold a log; nil: it can. Software that is not the firmware can
// reset 16 and 23, and 17–22 can't be extended from the operating system (TCG PC Client
// Platform TPM Profile, section 4.6).
func May(number int) error {
	switch {
	case number < 0 || number > 23:
		return fmt.Errorf("PCR %d: there are 0 to 23", number)
	case number == 16 || number == 23:
		return fmt.Errorf("PCR %d can be reset by any program that opens the TPM: it can't hold a log", number)
	case number >= 17:
		return fmt.Errorf("PCR %d belongs to the firmware's dynamic launch: the operating system can't extend it", number)
	}
	return nil
}
