package rpc

import (
	"encoding/json/jsontext"
	"errors"
	"strings"
	"unicode"

	"github.com/cima-project/cima/logs/canonical"
)

// Params is a parameter type of this package, which DecodeParams reads. The tags of its
// fields hold what its members must be (canonical.Unmarshal).
type Params interface {
	// complete fills in what is absent, and checks what tags can't express.
	complete() error
}

// DecodeParams reads the member params of a request into p. Unknown, missing and
// duplicate members, names in another case, and values that are out of bounds or in
// another spelling are errors that name the member (CodeInvalidParams).
func DecodeParams(raw jsontext.Value, p Params) error {
	return decodeParams(raw, p, p)
}

// DecodeAdminParams is DecodeParams on the admin socket, where a request may name
// a container in the member container_id; container is "" if it names none.
func DecodeAdminParams(raw jsontext.Value, p Params) (container string, err error) {
	var admin adminParams
	err = decodeParams(raw, p, p, &admin)
	return admin.Container, err
}

// adminParams are what each method on the admin socket takes besides its own.
type adminParams struct {
	Container string `json:"container_id,omitempty" within:"1..256"` // MaxContainerID
}

func decodeParams(raw jsontext.Value, p Params, into ...any) error {
	if len(raw) == 0 {
		raw = jsontext.Value("{}")
	}
	err := canonical.Unmarshal(raw, into...)
	if err == nil {
		err = p.complete()
	}
	if err == nil {
		return nil // without the allocation below
	}
	if malformed := new(MalformedError); errors.As(err, &malformed) {
		if malformed.Member == "container_id" && len(into) == 1 {
			// CIMA 0.5 took it from everybody.
			return InvalidParams(malformed.Member, "params: member \"container_id\": must be left out, for the kernel says who calls; the admin socket alone takes it")
		}
		return InvalidParams(malformed.Member, "params: %s", malformed)
	}
	return err
}

func (*NoParams) complete() error         { return nil }
func (*CCEventLogParams) complete() error { return nil }
func (*CCReportParams) complete() error   { return nil }
func (*StatusParams) complete() error     { return nil }
func (*ProcessParams) complete() error    { return nil }

func (p *CCMeasurementParams) complete() error {
	p.AlgoID = AlgoSHA384
	return nil
}

func (p *EvidenceParams) complete() error {
	if p.Format == "" {
		p.Format = FormatCIMA
	}
	if p.Shared && strings.HasPrefix(p.Format, "trustee") {
		return wrong("shared", "can't be carried by the format "+p.Format+": ask for a quote of your own")
	}
	return nil
}

func (p *ExtendParams) complete() error {
	if strings.Contains(p.Content, "\n") {
		return wrong("content", "must have no line feed (AAEL)")
	}
	return errors.Join(oneWord("domain", p.Domain), oneWord("operation", p.Operation))
}

func oneWord(name, word string) error {
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return wrong(name, "must be one word, without white space")
	}
	return nil
}

func wrong(member, reason string) error {
	return &MalformedError{Member: member, Reason: reason}
}
