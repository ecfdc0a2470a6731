package verify

import (
	"encoding/json/jsontext"
	"errors"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

// InitPolicy writes a commented policy, in TOML, that allows what the evidence of
// r shows and nothing else. It refuses evidence that is not authentic, and a
// quote without claims.
func InitPolicy(r *Result) ([]byte, error) {
	if r.Claims == nil || r.Registers == nil || r.Verdict == NotAuthentic || r.Verdict == Malformed {
		return nil, errors.New("no policy can be made from evidence that is not authentic: " + r.Reason)
	}
	if c := r.Claims.Container; c != nil && c.LaunchDigest == (rpc.Digest{}) {
		return nil, errors.New("no policy can be made of this container: " + loggedEarlier)
	}
	seen := r.seen
	seen.TCB, seen.Claims = r.TCB, r.Claims
	if s := r.Step(StepAgent); s != nil {
		seen.NewKey = s.Outcome == Warn
	}
	for _, e := range r.Events {
		if measured, ok := e.Measured.(jsontext.Value); ok && e.Judged {
			seen.Events = append(seen.Events, policy.Event{Operation: e.Operation, Container: e.Container, Measured: measured})
		}
	}
	return policy.Init(seen)
}
