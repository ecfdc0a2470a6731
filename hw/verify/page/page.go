// Package page answers: what does a result look like to somebody who would rather look
// than read?
//
// It writes a card (hw/verify/card), the chain from the root of trust to the container,
// registers and events into one HTML document, which needs no network and no script. All
// texts of evidence are made printable and escaped by html/template, and the document's
// policy (CSP) lets nothing run or load.
package page

import (
	"crypto/sha256"
	_ "embed" // the template and its style
	"encoding/base64"
	"html/template"
	"io"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/card"
	"github.com/cima-project/cima/hw/verify/replay"
)

// Shown is what a page shows.
type Shown struct {
	title  string         // what was read, such as a file's name
	result *verify.Result // nil: bare logs, which nobody judged
	logs   []replay.Event // of the boot and the operating system; of bare logs all

	registers []register
	head      head // of bare logs; a result has its own
}

// head is what the page says first.
type head struct {
	State state
	Words string // the verdict
	Mark  string // a sign for those who see no colours
	Under string // the root of trust, or what else the verdict holds under
	Given bool   // the root is not built in: the reader must see that it isn't
}

// state says how something stands. Its text is a class of the style sheet.
type state string

// The states of a link of the chain, a step, a register.
const (
	proved   state = "proved"
	unproved state = "unproved"
	failed   state = "failed"
)

// Words of a state, for people.
func (s state) Words() string {
	switch s {
	case proved:
		return "proved"
	case failed:
		return "failed"
	}
	return "not proved"
}

// Mark is a sign for those who see no colours.
func (s state) Mark() string {
	switch s {
	case proved:
		return "✓"
	case failed:
		return "✗"
	}
	return "?"
}

// model is what the template reads. All its texts are printable.
type model struct {
	Style  template.CSS
	Policy string // content security policy
	Title  string
	Head   head
	Wrong  []string
	Hint   string
	Facts  []fact
	Open   []open
	Chain  []link
	Height int // of the picture
	Has    bool

	Steps    []step
	Differ   []difference
	Proved   []statement
	Policies []source

	Registers []register
	Chunks    [][]event
	Kinds     []kind
	Events    int

	Verifier, Time string
	Claims         string // JSON
}

//go:embed page.html.tmpl
var templateText string

//go:embed page.css
var styleText string

// contentPolicy is the content security policy of a page: it may style itself, and nothing else.
func contentPolicy() string {
	return "default-src 'none'; style-src " + styleHash() + "; base-uri 'none'; form-action 'none'"
}

// styleHash is the source of a content security policy that allows the page's style.
func styleHash() string {
	sum := sha256.Sum256([]byte(styleText))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Write writes the page, one HTML document.
func (s Shown) Write(w io.Writer) error {
	t, err := template.New("page").Parse(templateText)
	if err != nil {
		return err
	}
	return t.Execute(w, s.model())
}

func (s Shown) model() model {
	m := model{Style: template.CSS(styleText), Policy: contentPolicy(), Title: plain(s.title), Head: s.head}
	m.Head.Words, m.Head.Mark, m.Head.Under = plain(s.head.Words), plain(s.head.Mark), plain(s.head.Under)
	for _, r := range s.registers {
		m.Registers = append(m.Registers, register{plain(r.Name), plain(r.Held), plain(r.Logs), r.State, plain(r.Note)})
	}
	if r := s.result; r != nil {
		m.Has = true
		c := card.Of(r)
		m.readCard(c)
		m.Head = head{State: stateOf(r.Verdict), Words: string(c.Verdict), Mark: markOf(r.Verdict), Under: c.Under, Given: r.Root != nil && r.Root.Kind != "built-in"}
		if r.Verdict == verify.Malformed {
			m.Head.Under = "refused: no step was reached, and nothing of it is proved"
		}
		m.Chain = chainOf(r)
		m.Height = linkHeight * len(m.Chain)
		m.Registers = registersOf(r, m.Registers)
		m.readResult(r)
	}
	m.readEvents(s.logs, s.result)
	return m
}

func stateOf(v verify.Verdict) state {
	switch v {
	case verify.Trusted, verify.Authentic:
		return proved
	case verify.NotTrusted:
		return unproved
	}
	return failed
}

func markOf(v verify.Verdict) string {
	if stateOf(v) == proved {
		return proved.Mark()
	}
	return failed.Mark()
}

func plain(text string) string { return replay.Printable(text) }
