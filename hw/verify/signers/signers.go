// Package signers answers: who signed this policy?
//
// A policy is signed by `ssh-keygen -Y sign -n cima-policy` (OpenSSH's PROTOCOL.sshsig),
// with any key that OpenSSH can use, a hardware key included. Who may sign stands in a file
// of allowed signers (ssh-keygen(1), ALLOWED SIGNERS).
package signers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Namespace of the signatures of policies. A signature made for anything else counts for
// nothing here.
const Namespace = "cima-policy"

// MaxSignature bounds a signature, in bytes.
const MaxSignature = 64 << 10

// maxLine bounds a line of a file of allowed signers, in bytes.
const maxLine = 64 << 10

// Allowed are the keys whose signatures count.
type Allowed struct{ keys []allowed }

type allowed struct {
	key           ssh.PublicKey
	principals    string
	namespaces    []string // patterns; empty: any
	after, before time.Time
}

// Parse reads a file of allowed signers. What it doesn't understand it refuses, with the
// line: a key that would silently count for less, or for more, helps nobody.
func Parse(text []byte) (*Allowed, error) {
	a := &Allowed{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		a.keys = append(a.keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(a.keys) == 0 {
		return nil, errors.New("no key is in it")
	}
	return a, nil
}

// parseLine reads: PRINCIPALS [OPTIONS] TYPE KEY [COMMENT].
func parseLine(line string) (k allowed, err error) {
	principals, rest := cutField(line)
	k.principals = strings.Trim(principals, `"`)
	if k.principals == "" || rest == "" {
		return k, errors.New("a line must have principals, a key's type and the key")
	}
	key, _, options, behind, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return k, fmt.Errorf("the key can't be read: %w", err)
	}
	if len(behind) > 0 {
		return k, errors.New("a line must hold one key")
	}
	if _, isCert := key.(*ssh.Certificate); isCert {
		return k, errors.New("a certificate must not stand in place of a key")
	}
	k.key = key
	for _, o := range options {
		if err := k.option(o); err != nil {
			return k, err
		}
	}
	return k, nil
}

// cutField cuts the first field off, which may be in double quotes.
func cutField(line string) (field, rest string) {
	quoted := false
	for i, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
		case (r == ' ' || r == '\t') && !quoted:
			return line[:i], strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

func (k *allowed) option(text string) (err error) {
	name, value, _ := strings.Cut(text, "=")
	value = strings.Trim(value, `"`)
	switch strings.ToLower(name) {
	case "namespaces":
		k.namespaces = strings.Split(value, ",")
	case "valid-after":
		k.after, err = parseTime(value)
	case "valid-before":
		k.before, err = parseTime(value)
	case "cert-authority":
		return errors.New("cert-authority is not supported: list the keys that sign")
	default:
		return fmt.Errorf("unknown option %q; namespaces, valid-after and valid-before are known", name)
	}
	return err
}

// parseTime reads YYYYMMDD[HHMM[SS]][Z]: local time, or with Z UTC, as OpenSSH does.
func parseTime(text string) (time.Time, error) {
	digits, utc := strings.CutSuffix(text, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	layout, ok := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	if !ok {
		return time.Time{}, fmt.Errorf("%q must be a time as YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z for UTC", text)
	}
	return time.ParseInLocation(layout, digits, zone)
}

// Check checks a detached signature over text, as of a time, and returns the principals
// of the key that made it.
func (a *Allowed) Check(text, signature []byte, at time.Time) (principals string, err error) {
	if len(signature) > MaxSignature {
		return "", fmt.Errorf("a signature must have at most %d bytes", MaxSignature)
	}
	sig, err := sshsig.Unarmor(signature)
	if err != nil {
		return "", fmt.Errorf("the signature can't be read: %w", err)
	}
	if sig.Signature == nil || !slices.Contains(algorithms(), sig.Signature.Format) {
		return "", fmt.Errorf("the signature must be of one of %s", strings.Join(algorithms(), ", "))
	}
	if sig.Namespace != Namespace {
		return "", fmt.Errorf("the signature is for %q, and must be for %q", sig.Namespace, Namespace)
	}
	why := fmt.Errorf("the key %s is no allowed signer", ssh.FingerprintSHA256(sig.PublicKey))
	for _, k := range a.keys {
		if !bytes.Equal(k.key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		if err := k.counts(at); err != nil {
			why = err
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(text), sig, k.key, sig.HashAlgorithm, Namespace); err != nil {
			return "", fmt.Errorf("the signature of %s doesn't hold: %w", k.principals, err)
		}
		return k.principals, nil
	}
	return "", why
}

// algorithms are the signatures that count: those that OpenSSH makes, without SHA-1 and DSA.
func algorithms() []string {
	return []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512}
}

// counts says whether the key signs policies at that time.
func (k *allowed) counts(at time.Time) error {
	switch {
	case len(k.namespaces) > 0 && !slices.Contains(k.namespaces, Namespace) && !slices.Contains(k.namespaces, "*"):
		return fmt.Errorf("the key of %s may not sign for %q", k.principals, Namespace)
	case !k.after.IsZero() && at.Before(k.after):
		return fmt.Errorf("the key of %s counts from %s", k.principals, k.after.UTC().Format(time.RFC3339))
	case !k.before.IsZero() && !at.Before(k.before):
		return fmt.Errorf("the key of %s counted until %s", k.principals, k.before.UTC().Format(time.RFC3339))
	}
	return nil
}
