// Package vectors answers: do all clients read the wire alike? It holds
// exchanges and bundles recorded from cimad-sim, which the Go, Python and Rust
// clients and the independent check.py pass. Its tests record them anew, and
// run every client against a running cimad-sim, in containers too.
package vectors

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
)

// Exchange is a request line and the reply line, without newlines.
type Exchange struct {
	Name    string         `json:"name"`
	Method  string         `json:"method,omitempty"` // absent where no client sends such a request
	Params  jsontext.Value `json:"params,omitzero"`
	Request string         `json:"request"`
	Reply   string         `json:"reply"`
}

// Bundle is a file of evidence and the facts that a reader must find in it.
type Bundle struct {
	File   string `json:"file"`
	About  string `json:"about"`
	Expect string `json:"expect"` // one of the words below
	Nonce  string `json:"nonce"`  // hex

	// What the logs replay to, in hex, as the recorder computed it. Absent in
	// forgeries.
	ReportData     string `json:"report_data,omitempty"`
	RTMR3          string `json:"rtmr3,omitempty"`
	Register       string `json:"register,omitempty"`
	Public         string `json:"public,omitempty"`
	Container      string `json:"container,omitempty"`
	LaunchDigest   string `json:"launch_digest,omitempty"`
	DefaultsDigest string `json:"defaults_digest,omitempty"`
}

// The results of reading a bundle.
const (
	Agrees    = "agrees"    // quote, claims and logs agree, and the agent signed
	Differs   = "differs"   // they contradict each other
	Signature = "signature" // they agree, and the agent's signature is not its own
	Malformed = "malformed" // it is no bundle
)

// Load reads the vectors in dir: exchanges.json and bundles.json.
func Load(dir string) (exchanges []Exchange, bundles []Bundle, err error) {
	for name, into := range map[string]any{"exchanges.json": &exchanges, "bundles.json": &bundles} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return exchanges, bundles, nil
}
