package vectors

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// forgeries are what a holder of two good bundles could try, in the form of
// bundles.
func forgeries(t *testing.T, a, b, shared, private []byte) (all []Bundle) {
	t.Helper()
	other := decode(t, b)
	for _, f := range []struct {
		file, about, expect string
		forge               func(e *rpc.Evidence) string
	}{
		{"claim", "the launch digest in the claims is another", Differs, func(e *rpc.Evidence) string {
			e.Claims = json.RawMessage(replaced(t, string(e.Claims), `"launch_digest":"`, flipHex))
			return ""
		}},
		{"member", "a member was added to the claims", Differs, func(e *rpc.Evidence) string {
			e.Claims = json.RawMessage(strings.Replace(string(e.Claims), `"profile":`, `"more":true,"profile":`, 1))
			return ""
		}},
		{"quote", "the quote is another bundle's", Differs, func(e *rpc.Evidence) string {
			e.Quote = other.Quote
			return ""
		}},
		{"bootlog", "a bit of the boot log is another", Differs, func(e *rpc.Evidence) string {
			e.BootLog[len(e.BootLog)-1] ^= 1
			return ""
		}},
		{"dropped", "an event is missing", Differs, func(e *rpc.Evidence) string {
			e.RuntimeLog = append(e.RuntimeLog[:1:1], e.RuntimeLog[2:]...)
			return ""
		}},
		{"hidden", "a public event is shown as its digest", Differs, func(e *rpc.Evidence) string {
			*e = *decode(t, b)
			for i, entry := range e.RuntimeLog {
				if event, err := logs.ParseEvent(entry.Event); err == nil && event.Operation == logs.OpPower {
					digest := event.Digest()
					e.RuntimeLog[i] = rpc.LogEntry{Digests: digest[:]}
					e.RuntimeLog = joinRuns(e.RuntimeLog)
					return ""
				}
			}
			t.Fatal("the bundle must have a power event to hide")
			return ""
		}},
		{"place", "another place in the tree of a shared quote", Differs, func(e *rpc.Evidence) string {
			*e = *decode(t, shared)
			e.Shared.Index ^= 1
			return ""
		}},
		{"path", "the path to the root of a shared quote is too short", Differs, func(e *rpc.Evidence) string {
			*e = *decode(t, shared)
			e.Shared.Path = e.Shared.Path[1:]
			return ""
		}},
		{"alone", "a shared quote shown as the caller's own", Differs, func(e *rpc.Evidence) string {
			*e = *decode(t, shared)
			e.Shared = nil
			return ""
		}},
		{"tree", "a tree of more leaves than one may have", Malformed, func(e *rpc.Evidence) string {
			*e = *decode(t, shared)
			e.Shared.Size = rpc.MaxShared + 1
			return ""
		}},
		{"more", "digests in a log that shows nothing of others", Differs, func(e *rpc.Evidence) string {
			*e = *decode(t, private)
			e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Digests: make([]byte, 48)})
			return ""
		}},
		{"signature", "the agent's signature is another's", Signature, func(e *rpc.Evidence) string {
			e.AgentSignature = other.AgentSignature
			return ""
		}},
		{"twice", "the claims stand there twice", Malformed, func(e *rpc.Evidence) string {
			return strings.Replace(text(t, e), `"claims":`, `"claims":`+string(e.Claims)+`,"claims":`, 1)
		}},
		{"unknown", "a member that nothing covers", Malformed, func(e *rpc.Evidence) string {
			return strings.Replace(text(t, e), `"tee":`, `"note":"trust me","tee":`, 1)
		}},
		{"base64", "base64 with bits to spare", Malformed, func(e *rpc.Evidence) string {
			return replaced(t, text(t, e), `"agent_signature":"`, loosen)
		}},
		{"short", "bytes of a digest are missing", Malformed, func(e *rpc.Evidence) string {
			e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Digests: make([]byte, 47)})
			return ""
		}},
	} {
		e := decode(t, a)
		whole := f.forge(e)
		if whole == "" {
			whole = text(t, e)
		}
		file := "bundles/forged-" + f.file + ".json"
		write(t, file, []byte(whole))
		all = append(all, Bundle{File: file, About: f.about, Expect: f.expect, Nonce: hex.EncodeToString(nonce)})
	}
	return all
}

func decode(t *testing.T, bundle []byte) *rpc.Evidence {
	t.Helper()
	e, _, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func text(t *testing.T, e *rpc.Evidence) string {
	t.Helper()
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replaced changes the string that follows what.
func replaced(t *testing.T, whole, what string, change func(string) string) string {
	t.Helper()
	before, rest, ok := strings.Cut(whole, what)
	value, after, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		t.Fatalf("no %s in %.100s", what, whole)
	}
	return before + what + change(value) + `"` + after
}

func flipHex(digest string) string {
	if digest[0] == '0' {
		return "1" + digest[1:]
	}
	return "0" + digest[1:]
}

// loosen sets a bit that careless decoders drop: 64 bytes leave four such bits
// before the padding.
func loosen(value string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	plain := strings.TrimRight(value, "=")
	last := strings.IndexByte(alphabet, plain[len(plain)-1])
	loose := plain[:len(plain)-1] + string(alphabet[last|1]) + value[len(plain):]
	if _, err := base64.StdEncoding.DecodeString(loose); err != nil {
		panic(err)
	}
	return loose
}

// joinRuns makes one record of adjacent runs of digests.
func joinRuns(list []rpc.LogEntry) (joined []rpc.LogEntry) {
	for _, entry := range list {
		if n := len(joined); n > 0 && entry.Digests != nil && joined[n-1].Digests != nil {
			joined[n-1].Digests = append(joined[n-1].Digests[:len(joined[n-1].Digests):len(joined[n-1].Digests)], entry.Digests...)
			continue
		}
		joined = append(joined, entry)
	}
	return joined
}
