package rpc

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// members is an object taken apart, to be read member by member. The first
// thing that is wrong is kept; what comes after it is not looked at.
type members struct {
	path string // of the object itself, "" at the top
	list []member
	err  error

	// learned gathers what would be read, where nothing is: nil otherwise.
	learned *[]Parameter

	few   [8]member // what list begins in
	asked [12]string
	names int
}

type member struct {
	name, value []byte
	taken       bool
}

func (m *members) add(name, value []byte) {
	if m.list == nil {
		m.list = m.few[:0]
	}
	m.list = append(m.list, member{name: name, value: value})
}

// reset makes m empty, to be used for another object.
func (m *members) reset() {
	clear(m.list)
	m.path, m.list, m.err, m.names = "", nil, nil, 0
}

// open takes an object apart that a scanner has already accepted.
func open(path string, object []byte) *members {
	m := &members{path: path}
	m.fill(object)
	return m
}

// fill fills an empty m with one object's members.
func (m *members) fill(object []byte) {
	s := scanner{data: object}
	if err := s.all(m); err != nil {
		m.wrong("", "%s", reasonOf(err))
	}
}

func reasonOf(err error) string {
	var malformed *MalformedError
	if errors.As(err, &malformed) {
		return malformed.Reason
	}
	return err.Error()
}

// wrong keeps an error about the member of that name, the first one only.
func (m *members) wrong(name, format string, args ...any) {
	if m.failed() || m.learned != nil {
		return
	}
	m.err = &MalformedError{Member: m.at(name), Reason: fmt.Sprintf(format, args...)}
}

func (m *members) failed() bool { return m.err != nil }

// learn keeps what a member is like instead of reading it.
func (m *members) learn(name string, must bool, s Schema) {
	*m.learned = append(*m.learned, Parameter{name, must, s})
}

// at is the path of a member.
func (m *members) at(name string) string {
	switch {
	case m.path == "":
		return name
	case name == "":
		return m.path
	}
	return m.path + "." + name
}

// take returns a member's bytes, nil where it is absent. A member that must
// be there and isn't is an error.
func (m *members) take(name string, must bool) []byte {
	if m.failed() {
		return nil
	}
	if m.names < len(m.asked) {
		m.asked[m.names] = name
		m.names++
	}
	for i := range m.list {
		if string(m.list[i].name) == name {
			m.list[i].taken = true
			return m.list[i].value
		}
	}
	if must {
		m.absent(name)
	}
	return nil
}

// absent tells a member that is missing from one that is misspelled.
func (m *members) absent(name string) {
	for _, other := range m.list {
		if bytes.EqualFold(other.name, []byte(name)) {
			m.wrong(clip(other.name), "is written %q", name)
		}
	}
	m.wrong(name, "is missing")
}

// only ends the reading: every member must have been asked for.
func (m *members) only() {
	m.variants()
	for _, other := range m.list {
		if !other.taken {
			m.wrong(clip(other.name), "is not known here")
		}
	}
}

// variants ends the reading where members that nobody asked for are allowed:
// only case variants of those asked for are refused.
func (m *members) variants() {
	for _, other := range m.list {
		if other.taken {
			continue
		}
		for _, name := range m.asked[:m.names] {
			if bytes.EqualFold(other.name, []byte(name)) {
				m.wrong(clip(other.name), "is written %q", name)
			}
		}
	}
}

// text reads a string of least to most bytes.
func (m *members) text(name string, v *string, least, most int, must bool) {
	if m.learned != nil {
		m.learn(name, must, Schema{Type: "string", MinLength: least, MaxLength: most})
		return
	}
	value := m.take(name, must)
	if value == nil {
		return
	}
	s := scanner{data: value}
	if s.peek() != '"' {
		m.wrong(name, "is a string")
		return
	}
	raw, escaped, err := s.text()
	if err != nil {
		m.wrong(name, "%s", reasonOf(err))
		return
	}
	if escaped {
		raw = unescape(raw)
	}
	if len(raw) < least || len(raw) > most {
		m.wrong(name, "has %d to %d bytes, not %d", least, most, len(raw))
		return
	}
	*v = string(raw)
}

var strictBase64 = base64.StdEncoding.Strict() // making it costs more than a short string

// bytes reads standard base64 (RFC 4648, section 4) of least to most bytes.
func (m *members) bytes(name string, v *[]byte, least, most int, must bool) {
	if m.learned != nil {
		// The length of base64 tells the number of bytes but for two.
		encoded := base64.StdEncoding.EncodedLen
		m.learn(name, must, Schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes", least, most),
			ContentEncoding: "base64", MinLength: encoded(least), MaxLength: encoded(most)})
		return
	}
	value := m.take(name, must)
	if value == nil {
		return
	}
	if value[0] != '"' {
		m.wrong(name, "is a string of base64")
		return
	}
	text := value[1 : len(value)-1]
	if base64.StdEncoding.DecodedLen(len(text)) > most+2 {
		m.wrong(name, "has %d to %d bytes, not about %d", least, most, len(text)/4*3)
		return
	}
	// The decoder skips line breaks, but none can stand in a string
	// unescaped, and a backslash is no base64.
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := strictBase64.Decode(out, text)
	switch {
	case err != nil:
		m.wrong(name, "is not standard base64 with padding")
	case n < least || n > most:
		m.wrong(name, "has %d to %d bytes, not %d", least, most, n)
	default:
		*v = out[:n]
	}
}

// integer reads a whole number in plain digits.
func (m *members) integer(name string, v *int, least, most int, must bool) {
	if m.learned != nil {
		least, most := least, most // else every call has them on the heap
		m.learn(name, must, Schema{Type: "integer", Minimum: &least, Maximum: &most})
		return
	}
	value := m.take(name, must)
	if value == nil {
		return
	}
	n, err := strconv.Atoi(string(value))
	switch {
	case err != nil || value[0] == '-' && n == 0:
		m.wrong(name, "is a whole number from %d to %d", least, most)
	case n < least || n > most:
		m.wrong(name, "is a number from %d to %d, not %d", least, most, n)
	default:
		*v = n
	}
}

func (m *members) boolean(name string, v *bool) {
	switch value := m.take(name, true); {
	case value == nil:
	case string(value) == "true":
		*v = true
	case string(value) == "false":
		*v = false
	default:
		m.wrong(name, "is true or false")
	}
}

func (m *members) digest(name string, v *Digest) {
	var text string
	m.text(name, &text, 0, 2*len(v), true)
	if m.failed() {
		return
	}
	if err := v.UnmarshalText([]byte(text)); err != nil {
		m.wrong(name, "%s", err)
	}
}

// object opens a member that is an object, nil where it is absent.
func (m *members) object(name string, must bool) *members {
	value := m.take(name, must)
	if value == nil {
		return nil
	}
	return open(m.at(name), value)
}

// array reads a member that is an array of objects.
func (m *members) array(name string, must bool, each func(element *members)) {
	value := m.take(name, must)
	if value == nil {
		return
	}
	s := scanner{data: value}
	if s.peek() != '[' {
		m.wrong(name, "is an array")
		return
	}
	n := 0
	var inner members // for one element after the other
	err := s.array(1, func(element []byte) error {
		inner.reset()
		inner.fill(element)
		if !inner.failed() {
			each(&inner)
		}
		if inner.failed() { // once more, for an error that says where
			again := open(m.at(name)+"["+strconv.Itoa(n)+"]", element)
			each(again)
			return cmp.Or(again.err, inner.err)
		}
		n++
		return nil
	})
	if err != nil && !m.failed() {
		m.err = err
	}
}

// join takes over the error of an object inside this one.
func (m *members) join(inner *members) {
	if !m.failed() {
		m.err = inner.err
	}
}
