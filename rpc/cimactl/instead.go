package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cima-project/cima/rpc/form"
)

// errLarge is in the error of a file that is larger than it may be.
var errLarge = errors.New("too large")

// readEvidence reads a bundle. One of more bytes than any may have is malformed.
func readEvidence(path string) ([]byte, error) {
	b, err := readBounded(path, maxEvidence)
	if errors.Is(err, errLarge) {
		return nil, &failure{err: err, code: exitMalformed, hint: "evidence has at most 16 MiB: is this the right file?"}
	}
	return b, err
}

// insteadOfEvidence says what to do with a file that is no bundle, where it is
// something that is easily taken for one; "" where it is anything else.
func insteadOfEvidence(path string, data []byte) string {
	if len(data) == 0 {
		return "there is nothing in it: did the command that wrote it fail?"
	}
	if c, err := form.Decode(data); err == nil && c.Form != form.CIMA {
		if c.Evidence != nil {
			return fmt.Sprintf("this is evidence in the form %s: `cimactl convert %s >evidence.json` makes of it what is appraised here", c.Form, path)
		}
		return fmt.Sprintf("this is in the form %s, which doesn't hold all that is appraised here: take what `cimactl evidence` wrote", c.Form)
	}
	var members map[string]jsontext.Value
	if json.Unmarshal(data, &members) != nil {
		return ""
	}
	switch {
	case members["cc_report"] != nil:
		return "this is a report, which has no logs: `cimactl evidence` gets what is appraised here"
	case members["jsonrpc"] != nil:
		return "this is a whole reply: evidence is its member \"result\" alone (jq -c .result)"
	}
	return ""
}
