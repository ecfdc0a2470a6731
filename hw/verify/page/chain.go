package page

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
)

// link is one of the chain from the root of trust to the container.
type link struct {
	Name   string
	Detail string // one short line: what stands in the way, or what is proved
	State  state
	Y      int // of its top in the picture
	Last   bool
}

// Middle, Below and the others are places in the picture, in its units.
func (l link) Middle() int { return l.Y + 22 }
func (l link) Below() int  { return l.Y + 36 }
func (l link) Next() int   { return l.Y + linkHeight + 8 }
func (l link) Upper() int  { return l.Y + 20 }
func (l link) Lower() int  { return l.Y + 38 }
func (l link) Lowest() int { return l.Y + 54 }
func (l link) Sign() int   { return l.Y + 27 }

// Lines are the detail in at most two lines of the picture.
func (l link) Lines() [2]string {
	if len(l.Detail) <= maxLine {
		return [2]string{l.Detail}
	}
	at := strings.LastIndexByte(l.Detail[:maxLine+1], ' ')
	if at <= 0 { // one long word: it is cut
		return [2]string{replay.Clip(l.Detail, maxLine)}
	}
	return [2]string{l.Detail[:at], replay.Clip(l.Detail[at+1:], maxLine)}
}

const (
	linkHeight = 68
	maxLine    = 44 // bytes of a line in the picture
	maxDetail  = 2 * maxLine
)

// chainOf are the links, each with the steps that prove it. A link rests on those before
// it: after one that failed, none is proved.
func chainOf(r *verify.Result) []link {
	if r.Verdict == verify.Malformed {
		return nil
	}
	rootName, launched, booted := "no root that is trusted vouches", "what was started", "what was booted"
	if r.Root != nil {
		rootName = r.Root.Name
	}
	if r.Boot != nil {
		booted = fmt.Sprintf("booted as %q", r.Boot.Name)
	}
	caller := "who asked"
	if r.Claims != nil && r.Claims.Container != nil {
		launched = cmp.Or(r.Claims.Container.Image, "an image that is not known")
		caller = "container " + replay.ShortID(r.Claims.Container.ID)
	}
	chain := []link{
		of(r, "Root", rootName, verify.StepQuote),
		of(r, "Quote", "signed under this root", verify.StepQuote, verify.StepDebug),
		of(r, "Platform", "patched, and not revoked", verify.StepEnclave, verify.StepTCB, verify.StepRevocation),
		of(r, "Registers", "they hold these claims", verify.StepShared, verify.StepReportData, verify.StepTD),
		of(r, "Boot", booted, verify.StepBootLog, verify.StepBootValues),
		of(r, "Agent", "it wrote this log", verify.StepAgent, verify.StepRuntimeLog, verify.StepClaims, verify.StepPower, verify.StepEvents),
		of(r, "Launch", launched, verify.StepCaller, verify.StepCallerValues),
		of(r, "Container", caller, verify.StepNonce, verify.StepUserData),
	}
	if r.Root != nil && r.Root.Kind != "built-in" && chain[0].State == proved {
		chain[0].State, chain[0].Detail = unproved, short(r.Root.Kind+", not built in: "+r.Root.Name)
	}
	broken := false
	for i := range chain {
		chain[i].Y, chain[i].Last = i*linkHeight, i == len(chain)-1
		if broken && chain[i].State == proved {
			chain[i].State, chain[i].Detail = unproved, "it rests on what failed"
		}
		broken = broken || chain[i].State == failed
	}
	return chain
}

// of makes a link of steps. The gravest of them says how it stands.
func of(r *verify.Result, name, holds string, steps ...string) link {
	l := link{Name: name, Detail: short(holds), State: proved}
	judged := false
	for _, step := range steps {
		s := r.Step(step)
		if s == nil || step == verify.StepShared && s.Outcome == verify.Skip {
			continue // not of this kind of evidence, or not needed
		}
		judged = true
		switch state := stateOfStep(s); {
		case state == failed && l.State != failed, state == unproved && l.State == proved:
			l.State, l.Detail = state, short(strings.TrimPrefix(s.Detail, "the policy does not allow it: "))
		}
	}
	if !judged {
		l.State, l.Detail = unproved, "this evidence says nothing of it"
	}
	return l
}

func short(text string) string {
	return replay.Clip(digits.ReplaceAllString(plain(text), "$1…"), maxDetail)
}
