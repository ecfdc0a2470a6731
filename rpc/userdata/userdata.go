// Package userdata answers: what does user data bind, so that one use is not taken for another?
//
// Each use is an object with a profile of its own, in canonical JSON. Whoever lets a peer
// choose nonce and user data is an oracle: the peer gets evidence about this container over
// keys of its own. So these objects are computed here, and no peer's bytes get in.
package userdata

import (
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Profiles of the uses. The one of many calls is rpc/tree's.
const (
	profileSeal      = "https://github.com/cima-project/cima/seal/v1"
	profileTEEPubkey = "https://github.com/cima-project/cima/tee-pubkey/v1"
)

// errOther is the error of user data that is of another use, or of none.
var errOther = errors.New("the user data is of another use")

type seal struct {
	Profile   string `json:"profile"`
	Recipient string `json:"recipient"`
}

// Seal binds a recipient of age's, to whom a secret can then be sealed.
func Seal(recipient string) ([]byte, error) {
	return canonical.Marshal(seal{profileSeal, recipient})
}

// ReadSeal returns the recipient that is bound. What it returns is as long as user data
// at most; whether it is a recipient, age must say.
func ReadSeal(data []byte) (recipient string, err error) {
	var s seal
	if err := read(data, profileSeal, &s); err != nil {
		return "", err
	}
	return s.Recipient, nil
}

// read reads an object of one profile, and no other.
func read(data []byte, profile string, into any) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: there is none", errOther)
	}
	var any struct {
		Profile string `json:"profile"`
	}
	if err := canonical.Decode(data, &any); err != nil || any.Profile != profile {
		return fmt.Errorf("%w: it must be an object of the profile %s", errOther, profile)
	}
	if err := canonical.Unmarshal(data, into); err != nil {
		return fmt.Errorf("user data of the profile %s: %w", profile, err)
	}
	if again, err := canonical.Marshal(into); err != nil || string(again) != string(data) {
		return fmt.Errorf("user data of the profile %s must be in canonical form (RFC 8785)", profile)
	}
	return nil
}

// IsOther reports whether an error of this package says that the user data is not of
// the use that was asked for, but of another, or of none.
func IsOther(err error) bool { return errors.Is(err, errOther) }
