package appraise

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"

	"github.com/cima-project/cima/rpc/form"
)

// insteadOfEvidence says what to do with a file that is no bundle but is easily taken
// for one; "" if it is anything else.
func insteadOfEvidence(path string, data []byte) string {
	if len(data) == 0 {
		return "the file is empty: did the command that wrote it fail?"
	}
	if c, err := form.Decode(data); err == nil && c.Form != form.CIMA {
		if c.Evidence != nil {
			return fmt.Sprintf("this is evidence in the form %s: convert it with `cimactl convert %s >evidence.json`", c.Form, path)
		}
		return fmt.Sprintf("this is in the form %s, which does not hold all that is appraised here: use the output of `cimactl evidence`", c.Form)
	}
	var members map[string]jsontext.Value
	if json.Unmarshal(data, &members) != nil {
		return ""
	}
	switch {
	case members["cc_report"] != nil:
		return "this is a report, which has no logs: get evidence with `cimactl evidence`"
	case members["jsonrpc"] != nil:
		return "this is a whole reply: only its member \"result\" is evidence (jq -c .result)"
	}
	return ""
}
