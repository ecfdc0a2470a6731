// Package instead answers: what is this file, where evidence or a policy was wanted?
package instead

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"strings"

	"github.com/cima-project/cima/rpc/form"
)

// OfEvidence says what to do with a file that is no bundle but is easily taken
// for one; "" if it is anything else.
func OfEvidence(path string, data []byte) string {
	if len(data) == 0 {
		return "the file is empty: did the command that wrote it fail?"
	}
	if c, err := form.Decode(data); err == nil && c.Form != form.CIMA {
		if c.Evidence != nil {
			return fmt.Sprintf("this is evidence in the form %s: convert it with `cimactl convert %s >evidence.json`", c.Form, path)
		}
		return fmt.Sprintf("this is in the form %s, which does not hold all that is appraised here: use the output of `cimactl evidence`", c.Form)
	}
	if said := ofJSON(data); said != "" {
		return said
	}
	var members map[string]jsontext.Value
	if json.Unmarshal(data, &members) != nil {
		return ""
	}
	switch {
	case members["cc_report"] != nil:
		return "this is a report, which has no logs: get evidence with `cimactl evidence`"
	case members["jsonrpc"] != nil && members["error"] != nil:
		return "this is an error of the daemon, and no evidence: ask again"
	case members["jsonrpc"] != nil:
		return "this is a whole reply: only its member \"result\" is evidence (jq -c .result)"
	case members["verdict"] != nil:
		return "this is a result of `cimactl verify --json`: give the evidence that it is about"
	case members["mrtd"] != nil, members["pid"] != nil:
		return "this is an answer of `cimactl measurements` or `whoami`, which proves nothing: get evidence with `cimactl evidence`"
	}
	return ""
}

// Types of a quote and of a table (Intel DCAP, Quote Format; ACPI, CCEL).
const (
	quoteTDX  = 0x81
	logHeader = "Spec ID Event03\x00"
)

// ofJSON is about files that are not JSON, or are lines of it.
func ofJSON(data []byte) string {
	text := strings.TrimSpace(string(data[:min(len(data), 4096)]))
	_, notHex := hex.DecodeString(text)
	switch {
	case len(data) > 8 && (data[0] == 4 || data[0] == 5) && data[1] == 0 && binary.LittleEndian.Uint32(data[4:]) == quoteTDX:
		return "this is a quote without its logs: appraise it with `cimactl verify --quote FILE`"
	case bytes.Contains(data[:min(len(data), 256)], []byte(logHeader)):
		return "this is a boot log: it goes with a quote, `cimactl verify --quote FILE --boot-log FILE`"
	case strings.HasPrefix(text, `{"cima":1,"boot_id"`):
		return "this is cimad's runtime.log: it goes with a quote, `cimactl verify --quote FILE --runtime-log FILE`"
	case strings.HasPrefix(text, "-----BEGIN "):
		return "this is a certificate or a key: evidence comes first, then --trust-root PEM"
	case strings.Contains(text, "cima_policy"):
		return "this is a policy: evidence comes first, then --policy FILE"
	case text != "" && notHex == nil:
		return "this is hex, a nonce perhaps: evidence comes first, then --nonce HEX"
	}
	return ""
}

// OfPolicy is about a file that was given as a policy.
func OfPolicy(data []byte) string {
	text := bytes.TrimSpace(data[:min(len(data), 4096)])
	switch {
	case len(text) == 0:
		return "the file is empty: did the command that wrote it fail?"
	case bytes.HasPrefix(text, []byte("{")):
		return "this is JSON, evidence perhaps: it must be `cimactl verify EVIDENCE --policy FILE`, `cimactl policy explain FILE EVIDENCE`"
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		return "this is a certificate or a key: it goes with --trust-root"
	}
	return ""
}
