package rpc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Bounds of a bundle of evidence, in bytes.
const (
	MaxEvidence = 16 << 20 // all of it
	maxClaims   = 64 << 10
	maxText     = 4 << 10 // of a name, an image reference
)

// DecodeEvidence reads a bundle, at most MaxEvidence bytes long. It takes
// each value in one spelling only: strings and numbers as RFC 8785 writes
// them, base64 in its standard form, no member twice, in another case, or
// unknown; only white space and the order of members are free. Claims may
// have members that this version doesn't know, for their digest covers them.
// What it refuses is a *MalformedError.
func DecodeEvidence(data []byte) (*Evidence, *Claims, error) {
	if len(data) > MaxEvidence {
		return nil, nil, &MalformedError{Offset: MaxEvidence, Reason: fmt.Sprintf("evidence has at most %d bytes", MaxEvidence)}
	}
	var m members
	s := scanner{data: data, canonical: true}
	if err := s.all(&m); err != nil {
		return nil, nil, err
	}
	var e Evidence
	var c Claims
	e.read(&m)
	if inner := m.object("claims", true); inner != nil {
		e.Claims = json.RawMessage(m.take("claims", true))
		if len(e.Claims) > maxClaims {
			m.wrong("claims", "have at most %d bytes", maxClaims)
		}
		c.read(inner)
		m.join(inner)
	}
	m.only()
	if m.failed() {
		return nil, nil, m.err
	}
	return &e, &c, nil
}

func (e *Evidence) read(m *members) {
	m.text("profile", &e.Profile, 1, maxText, true)
	if e.Profile != EvidenceProfile {
		m.wrong("profile", "is %q; evidence of other profiles is not read", EvidenceProfile)
	}
	m.text("tee", &e.TEE, 1, maxText, true)
	m.bytes("quote", &e.Quote, 1, MaxEvidence, true)
	if inner := m.object("shared", false); inner != nil {
		e.Shared = new(Shared)
		e.Shared.read(inner)
		m.join(inner)
	}
	m.bytes("agent_signature", &e.AgentSignature, 1, maxText, true)
	m.bytes("boot_log", &e.BootLog, 0, MaxEvidence, true)
	m.array("os_logs", false, func(element *members) {
		var log OSLog
		element.text("register", &log.Register, 1, maxText, true)
		element.text("format", &log.Format, 1, maxText, true)
		element.bytes("entries", &log.Entries, 0, MaxEvidence, true)
		element.only()
		e.OSLogs = append(e.OSLogs, log)
	})
	if m.take("os_logs", false) != nil && len(e.OSLogs) == 0 {
		m.wrong("os_logs", "is left out where it is empty")
	}
	e.RuntimeLog = []LogEntry{}
	m.array("runtime_log", true, func(element *members) {
		var entry LogEntry
		entry.read(element)
		if n := len(e.RuntimeLog); n > 0 && entry.Digests != nil && e.RuntimeLog[n-1].Digests != nil {
			element.wrong("digests", "go on with those before: a run is one record")
		}
		e.RuntimeLog = append(e.RuntimeLog, entry)
	})
}

func (l *LogEntry) read(m *members) {
	m.bytes("event", &l.Event, 1, MaxEvidence, false)
	m.bytes("digests", &l.Digests, len(Digest{}), MaxEvidence, false)
	m.only()
	if (l.Event == nil) == (l.Digests == nil) {
		m.wrong("", "has an event or digests")
	}
	if len(l.Digests)%len(Digest{}) != 0 {
		m.wrong("digests", "has a multiple of %d bytes", len(Digest{}))
	}
}

func (c *Claims) read(m *members) {
	m.text("profile", &c.Profile, 1, maxText, true)
	if c.Profile != ClaimsProfile {
		m.wrong("profile", "is %q; claims of other profiles are not read", ClaimsProfile)
	}
	m.digest("agent", &c.Agent)
	m.bytes("nonce", &c.Nonce, MinNonce, MaxNonce, true)
	m.bytes("user_data", &c.UserData, 0, MaxUserData, false)
	if inner := m.object("container", false); inner != nil {
		c.Container = new(ContainerClaims)
		c.Container.read(inner)
		m.join(inner)
	}
	if inner := m.object("host", false); inner != nil {
		c.Host = new(HostClaims)
		inner.text("unit", &c.Host.Unit, 0, maxText, false)
		inner.uid("uid", &c.Host.UID)
		inner.variants()
		m.join(inner)
	}
	if (c.Container == nil) == (c.Host == nil) {
		m.wrong("container", "stands there, or host does")
	}
	m.digest("boot_log", &c.BootLog)
	if m.take("os_logs", false) != nil {
		c.OSLogs = new(Digest)
		m.digest("os_logs", c.OSLogs)
	}
	if inner := m.object("log", true); inner != nil {
		inner.integer("count", &c.Log.Count, 0, 1<<31-1, true)
		inner.digest("register", &c.Log.Register)
		inner.digest("public", &c.Log.Public)
		inner.text("anchor", &c.Log.Anchor, 1, maxText, true)
		inner.text("view", &c.Log.View, 1, maxText, false)
		inner.variants()
		m.join(inner)
	}
	m.variants()
}

func (c *ContainerClaims) read(m *members) {
	m.text("id", &c.ID, 1, maxText, true)
	m.text("runtime", &c.Runtime, 0, maxText, true)
	m.text("image", &c.Image, 0, maxText, false)
	m.text("image_digest", &c.ImageDigest, 0, maxText, false)
	m.digest("launch_digest", &c.LaunchDigest)
	m.digest("register", &c.Register)
	if inner := m.object("assurance", true); inner != nil {
		inner.text("start", &c.Assurance.Start, 0, maxText, true)
		inner.boolean("pidfd", &c.Assurance.PIDFD)
		inner.uid("cgroup_owner", &c.Assurance.CgroupOwner)
		inner.text("metadata", &c.Assurance.Metadata, 0, maxText, true)
		inner.variants()
		m.join(inner)
	}
	m.variants()
}

func (m *members) uid(name string, v *uint32) {
	n := 0
	m.integer(name, &n, 0, 1<<32-1, true)
	*v = uint32(n)
}

// AppendJSON writes evidence in the one spelling that DecodeEvidence takes:
// encoding/json escapes characters that RFC 8785 does not, in claims too.
func (e *Evidence) AppendJSON(b []byte) ([]byte, error) {
	if err := StrictCanonical(e.Claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	b = appendText(append(b, `{"profile":`...), e.Profile)
	b = appendText(append(b, `,"tee":`...), e.TEE)
	b = appendBase64(append(b, `,"quote":`...), e.Quote)
	b = append(append(b, `,"claims":`...), e.Claims...)
	if e.Shared != nil {
		b = e.Shared.appendJSON(append(b, `,"shared":`...))
	}
	b = appendBase64(append(b, `,"agent_signature":`...), e.AgentSignature)
	b = appendBase64(append(b, `,"boot_log":`...), e.BootLog)
	for i, log := range e.OSLogs {
		b = append(b, separator(i, `,"os_logs":[`)...)
		b = appendText(append(b, `{"register":`...), log.Register)
		b = appendText(append(b, `,"format":`...), log.Format)
		b = append(appendBase64(append(b, `,"entries":`...), log.Entries), '}')
	}
	if len(e.OSLogs) > 0 {
		b = append(b, ']')
	}
	b = append(b, `,"runtime_log":[`...)
	for i, entry := range e.RuntimeLog {
		b = append(b, separator(i, "")...)
		if entry.Event != nil {
			b = append(appendBase64(append(b, `{"event":`...), entry.Event), '}')
		} else {
			b = append(appendBase64(append(b, `{"digests":`...), entry.Digests), '}')
		}
	}
	return append(b, "]}"...), nil
}

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

func appendBase64(b, data []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), data), '"')
}

// appendText writes a string as RFC 8785, section 3.2.2.2, does.
func appendText(b []byte, text string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range text { // what is not UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= 0x20:
			b = utf8.AppendRune(b, r)
		case shortEscapes[r] != 0:
			b = append(b, '\\', shortEscapes[r])
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		}
	}
	return append(b, '"')
}

var shortEscapes = [0x20]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}
