package page

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/evidence"
)

// register is a measurement register: what it holds, and what logs replay to.
type register struct {
	Name  string
	Held  string // by the quote; hex; "" where there is none
	Logs  string // what the logs replay to; "" where they say nothing of it
	State state
	Note  string
}

// Notes that more than one register has.
const (
	asWanted   = "as the policy wants it"
	byPolicy   = "no log explains it, a policy names it"
	replays    = "the log replays to it"
	notReplays = "the log replays to something else"
	noLog      = "no log was held against it"
	unsigned   = "nobody who is trusted signed it: a log that replays to it can be made of anything"
)

// policyPCRs are those that a policy can name (cima-policy(5), [vtpm.NAME]): 0 to 15.
const policyPCRs = 16

// registersOf are the quote's registers, beside what the logs replay to, and PCRs behind
// them where the guest has a TPM in its paravisor.
func registersOf(r *verify.Result, pcrs []register) (list []register) {
	whose := "the firmware's"
	if len(pcrs) > 0 {
		whose = "the paravisor's"
	}
	first := register{State: unproved, Note: whose + "; " + byPolicy}
	if r.Boot != nil {
		first.State, first.Note = proved, asWanted
	}
	switch {
	case r.Guest != nil:
		first.Name, first.Held = "MEASUREMENT", r.Guest.Measurement.String()
		list = []register{first}
	case r.Registers != nil:
		first.Name, first.Held = "MRTD", r.Registers.MRTD.String()
		list = append([]register{first}, rtmrsOf(r, len(pcrs) > 0)...)
	}
	list = append(list, pcrs...)
	if s := r.Step(verify.StepQuote); s != nil && s.Outcome == verify.Fail {
		for i := range list {
			if list[i].State == proved {
				list[i].State, list[i].Note = unproved, unsigned
			}
		}
	}
	for _, d := range bootDiffers(r) {
		for i := range list {
			if list[i].Name == d.What || d.What == "the paravisor" && i == 0 {
				list[i].State, list[i].Note = failed, "the policy wants another value"
			}
		}
	}
	return list
}

// rtmrsOf are RTMR0–3. Those of a paravisor's TD say nothing of the system inside.
func rtmrsOf(r *verify.Result, paravisor bool) (list []register) {
	replayed := make(map[string]verify.Comparison)
	for _, name := range []string{verify.StepBootLog, verify.StepRuntimeLog} {
		if s := r.Step(name); s != nil {
			for _, c := range s.Compared {
				replayed[strings.ToUpper(c.What)] = c
			}
		}
	}
	for i, held := range r.Registers.RTMR {
		one := register{Name: "RTMR" + strconv.Itoa(i), Held: held.String(), State: unproved, Note: noLog}
		if paravisor {
			one.Note = "the paravisor's; nothing of the system is measured into it"
		} else if c, there := replayed[one.Name]; there {
			one.Logs = plain(c.Got)
			one.State, one.Note = proved, replays
			if c.Want != c.Got {
				one.State, one.Note = failed, notReplays
			}
		}
		list = append(list, one)
	}
	return list
}

// pcrsOf are the PCRs of a TPM, beside what the logs replay to. What the operating system
// extended behind the boot log is a policy's to know: known says that it names each of them.
func pcrsOf(pcrs []evidence.PCR, known bool) (list []register) {
	for i, p := range pcrs {
		one := register{Name: fmt.Sprintf("PCR %d", i), Held: hex.EncodeToString(p.Held), Logs: hex.EncodeToString(p.Logs), State: unproved, Note: noLog}
		switch same := one.Held == one.Logs; {
		case i == 16 || i == 23: // TCG PC Client Platform Firmware Profile 1.06, section 3.3.4: debug, and applications
			one.Note = "any program can reset it"
		case one.Logs == "":
		case same && p.Untouched:
			one.State, one.Note = proved, "nothing extended it"
		case same && p.Runtime:
			one.State, one.Note = proved, "the runtime log replays to it"
		case same:
			one.State, one.Note = proved, "the boot log replays to it"
		case p.Firmware || p.Runtime:
			one.State, one.Note = failed, notReplays
		case known && i < policyPCRs:
			one.State, one.Note = proved, asWanted
		default:
			one.Note = "it holds more than the boot log has, or something else"
		}
		list = append(list, one)
	}
	return list
}

// pcrsKnown reports whether a policy names the PCRs after the boot, and leaves none open.
func pcrsKnown(r *verify.Result) bool {
	return r.Boot != nil && r.Boot.VTPM != "" && !slices.ContainsFunc(r.NotProved, func(s verify.Statement) bool { return s.Code == codes.PCRsVary })
}

// bootDiffer is a register in which a boot differs from the nearest that a policy knows.
var bootDiffer = regexp.MustCompile(`^(MRTD|MEASUREMENT|RTMR[0-3]|PCR [0-9]+|the paravisor) is ([0-9a-f]+|zero), want (.+)$`)

// bootDiffers are the registers in which the boot differs from the nearest that the policy
// knows, by the words of the step. It ends at the first difference that is not a register's:
// an event's words are the log's, and could go on like ours.
func bootDiffers(r *verify.Result) (list []verify.Comparison) {
	s := r.Step(verify.StepBootValues)
	if s == nil || s.Outcome != verify.Fail {
		return nil
	}
	_, of, _ := strings.Cut(s.Detail, "known boot, ")
	name, err := strconv.QuotedPrefix(of)
	if err != nil {
		return nil
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(of[len(name):], ": "), "; ") {
		m := bootDiffer.FindStringSubmatch(part)
		if m == nil {
			break
		}
		list = append(list, verify.Comparison{What: m[1], Want: m[3], Got: m[2]})
	}
	return list
}
