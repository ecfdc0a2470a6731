package rpc

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"
)

// Params is a parameter type of this package; DecodeParams reads it.
type Params interface {
	read(m *members)
}

// DecodeParams reads the params member of a request into p. Unknown, missing,
// duplicate and case-variant members, and values that are out of bounds or
// not in the one spelling, are errors that name the member (CodeInvalidParams).
func DecodeParams(raw json.RawMessage, p Params) error {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	var m members
	s := scanner{data: raw}
	if m.err = s.all(&m); !m.failed() {
		p.read(&m)
		m.only()
	}
	if !m.failed() {
		return nil
	}
	var malformed *MalformedError
	if errors.As(m.err, &malformed) {
		return InvalidParams(malformed.Member, "params: %s", malformed)
	}
	return m.err
}

// DecodeAdminParams is DecodeParams on the admin socket, where a request may name
// a container in the member container_id: container is "" where it names none.
func DecodeAdminParams(raw json.RawMessage, p Params) (container string, err error) {
	admin := adminParams{inner: p}
	err = DecodeParams(raw, &admin)
	return admin.container, err
}

func (*NoParams) read(*members) {}

func (p *CCMeasurementParams) read(m *members) {
	m.integer("index", &p.Index, 0, MaxIndex, true)
	p.AlgoID = AlgoSHA384
	m.integer("algo_id", &p.AlgoID, AlgoSHA384, AlgoSHA384, false)
}

func (p *CCEventLogParams) read(m *members) {
	m.integer("start", &p.Start, 0, 1<<31-1, false)
	m.integer("count", &p.Count, 1, MaxEventCount, false)
}

func (p *CCReportParams) read(m *members) {
	m.bytes("nonce", &p.Nonce, MinNonce, MaxNonce, true)
	m.bytes("user_data", &p.UserData, 0, MaxUserData, false)
	m.flag("shared", &p.Shared)
}

func (p *EvidenceParams) read(m *members) {
	m.bytes("nonce", &p.Nonce, MinNonce, MaxNonce, true)
	m.bytes("user_data", &p.UserData, 0, MaxUserData, false)
	p.Format = FormatCIMA
	m.choice("format", &p.Format, formats)
	m.flag("shared", &p.Shared)
	if p.Shared && strings.HasPrefix(p.Format, "trustee") {
		m.wrong("shared", "can't be carried by the format %s: ask for a quote of your own", p.Format)
	}
}

func (p *ExtendParams) read(m *members) {
	m.text("domain", &p.Domain, 1, MaxExtendWord, true)
	m.text("operation", &p.Operation, 1, MaxExtendWord, true)
	m.text("content", &p.Content, 0, MaxExtendContent, true)
	m.oneWord("domain", p.Domain)
	m.oneWord("operation", p.Operation)
}

func (p *StatusParams) read(m *members) { m.flag("metrics", &p.Metrics) }

// flag reads a boolean that may be absent.
func (m *members) flag(name string, v *bool) {
	if m.learned != nil {
		m.learn(name, false, Schema{Type: "boolean"})
		return
	}
	if m.take(name, false) != nil {
		m.boolean(name, v)
	}
}

// choice reads one of some words, which may be absent.
func (m *members) choice(name string, v *string, of []string) {
	if m.learned != nil {
		m.learn(name, false, Schema{Enum: of})
		return
	}
	m.text(name, v, 0, 64, false)
	if last := len(of) - 1; !slices.Contains(of, *v) {
		m.wrong(name, "is %s or %s", strings.Join(of[:last], ", "), of[last])
	}
}

func (m *members) oneWord(name, word string) {
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		m.wrong(name, "is one word, without white space")
	}
}

// adminParams are the parameters of a method on the admin socket.
type adminParams struct {
	container string
	inner     Params
}

func (p *adminParams) read(m *members) {
	m.text("container_id", &p.container, 1, MaxContainerID, false)
	p.inner.read(m)
}
