// Package paravisor answers: are a paravisor and the PCRs of its TPM as a policy wants them?
//
// It reads the values of [vtpm.NAME] (cima-policy(5)). Whoever has the paravisor has the
// TPM's key, and signs any PCRs: so the paravisor itself must be known.
package paravisor

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/tables"
)

// Rules are the values of [vtpm.NAME].
type Rules struct {
	paravisor []string   // MRTD of a TD, MEASUREMENT of an SNP guest
	pcrs      [][]string // values of each, any of them; "log"; "any", or none, is any
}

// PCRs 0–7 must be named: firmware and its configuration, boot loaders, partitions, Secure
// Boot. Any program can reset 16 and 23, and the firmware has no use for those between.
const (
	requiredPCRs = 8
	policyPCRs   = 16
)

const (
	zeroWord = "zero"
	anyWord  = "any"
	logWord  = "log" // it holds the runtime log, and nothing else
)

var (
	pcrValue = regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{96})$`)
	hex384   = regexp.MustCompile(`^[0-9a-f]{96}$`)
)

func isPCR(s string) string {
	if s != anyWord && s != zeroWord && s != logWord && (!pcrValue.MatchString(s) || strings.Trim(s, "0") == "") {
		return `64 lower-case hex digits (SHA-256), 96 (SHA-384), not all zeros, "zero", "log", or "any"`
	}
	return ""
}

func isMeasurement(s string) string {
	if !hex384.MatchString(s) || strings.Trim(s, "0") == "" {
		return "96 lower-case hex digits that are not all zeros"
	}
	return ""
}

// Read reads the values. open says that some PCR may hold anything.
func Read(t *tables.Table) (r Rules, open bool) {
	if r.paravisor = t.Texts("paravisor", isMeasurement); len(r.paravisor) == 0 {
		t.Bad("paravisor", "there: whoever has the paravisor has the TPM's key, and signs any PCRs")
	}
	for i := range policyPCRs {
		key := "pcr" + strconv.Itoa(i)
		list := t.Texts(key, isPCR)
		if len(list) == 0 && (list != nil || i < requiredPCRs) {
			t.Bad(key, `there: a value, several, or "any"`)
		}
		if i < requiredPCRs && slices.Contains(list, zeroWord) {
			t.Bad(key, `a value, several, or "any": firmware that measures leaves a separator in it, and where it is zero, whatever was booted can extend it to any value`)
		}
		if slices.Contains(list, logWord) && slices.Contains(list, anyWord) {
			t.Bad(key, `"log" or "any": where the log is in another PCR, another log could be in this one`)
		}
		open = open || len(list) == 0 || slices.Contains(list, anyWord)
		r.pcrs = append(r.pcrs, list)
	}
	return r, open
}

// HoldLog reports whether this PCR, -1 for none, is one that the values say holds the runtime log
// and nothing else.
func (r Rules) HoldLog(number int) bool {
	return number >= 0 && number < len(r.pcrs) && slices.Contains(r.pcrs[number], logWord)
}

// Size is how many values there are.
func (r Rules) Size() int {
	n := len(r.paravisor) + policyPCRs
	for _, list := range r.pcrs {
		n += len(list)
	}
	return n
}

// Differs says in what a paravisor and PCRs 0–23 differ from the values; nil: in nothing.
// log is the PCR that holds the runtime log and nothing else, -1 for none.
func (r Rules) Differs(paravisor hw.Digest, pcrs [][]byte, log int) (differ []string) {
	if got := paravisor.String(); !slices.Contains(r.paravisor, got) {
		differ = append(differ, fmt.Sprintf("the paravisor is %s, want %s", got, tables.Or(r.paravisor)))
	}
	for i, list := range r.pcrs {
		if i == log && slices.Contains(list, logWord) {
			continue
		}
		if got := Word(pcrs[i]); len(list) > 0 && !slices.Contains(list, anyWord) && !slices.Contains(list, got) {
			differ = append(differ, fmt.Sprintf("PCR %d is %s, want %s", i, got, tables.Or(list)))
		}
	}
	return differ
}

// Word is how a policy writes a PCR's value.
func Word(value []byte) string {
	if slices.Max(value) == 0 {
		return zeroWord
	}
	return hex.EncodeToString(value)
}
