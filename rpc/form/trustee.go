package form

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// trusteeEvidence is what Trustee's TDX verifier reads (deps/verifier).
type trusteeEvidence struct {
	Quote    []byte `json:"quote"`
	EventLog []byte `json:"cc_eventlog"`
}

// trusteeRequest is what its attestation service takes (restful-as).
type trusteeRequest struct {
	Requests  []trusteeOne `json:"verification_requests"`
	PolicyIDs []string     `json:"policy_ids"`
}

type trusteeOne struct {
	TEE         string      `json:"tee"`
	Evidence    string      `json:"evidence"` // base64url without padding
	RuntimeData runtimeData `json:"runtime_data"`
	Hash        string      `json:"runtime_data_hash_algorithm"`
}

// The structured form of runtimeData is hashed in the form of RFC 8785, as the
// claims are, so that Trustee finds their hash in REPORTDATA.
type runtimeData struct {
	Structured jsontext.Value `json:"structured"`
}

const hashSHA512 = "sha512"

// tagIMA marks an IMA entry's line: "IMA" in a tagged event of ours.
const tagIMA = 0x00414D49

func tagged(tag uint32, text string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, tag)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

// isPrivate reports whether claims are of a log that leaves out other
// containers' events.
func isPrivate(claims jsontext.Value) bool {
	var c struct {
		Log struct {
			View string `json:"view"`
		} `json:"log"`
	}
	return canonical.Decode(claims, &c) == nil && c.Log.View == rpc.ViewPrivate
}

func encodeTrustee(e *rpc.Evidence, events []Event) ([]byte, error) {
	if e.Shared != nil {
		return nil, errors.New("a form of Trustee's can't hold a shared quote: Trustee looks for the hash of the claims in REPORTDATA, which holds the root of a tree; get evidence that is not shared")
	}
	if isPrivate(e.Claims) {
		return nil, errors.New("a form of Trustee's can't hold a private log: Trustee replays RTMR3, and this log does not show other containers' events")
	}
	log, err := trusteeLog(e, events)
	if err != nil {
		return nil, err
	}
	return json.Marshal(trusteeEvidence{e.Quote, log})
}

func encodeRequest(e *rpc.Evidence, events []Event) ([]byte, error) {
	inner, err := encodeTrustee(e, events)
	if err != nil {
		return nil, err
	}
	return json.Marshal(trusteeRequest{
		Requests: []trusteeOne{{
			TEE: e.TEE, Evidence: base64.RawURLEncoding.EncodeToString(inner),
			RuntimeData: runtimeData{e.Claims}, Hash: hashSHA512,
		}},
		PolicyIDs: []string{},
	})
}

// trusteeLog is one boot log of all events, as Trustee replays it: Trustee
// extends by every event, EV_NO_ACTION too, and refuses unknown event types and
// algorithms, and data that are not as their type has them. A boot log that Trustee
// would refuse is written again, with the same digests in the same order.
func trusteeLog(e *rpc.Evidence, events []Event) ([]byte, error) {
	bootLog, err := boot.Parse(e.BootLog)
	if err != nil {
		return nil, err
	}
	head, appended := bootLog.Bytes(), events[len(bootEvents(bootLog)):] // the boot log as it is, and the other events
	if !trusteeAccepts(bootLog) {
		head, appended = boot.AppendHeader(nil), events // a header alone, and all events
	}
	var records []byte
	for _, event := range appended {
		records = appendRecord(records, event)
	}
	return boot.TrusteeLog(head, records)
}

// appendRecord writes an event as TCG_PCR_EVENT2.
func appendRecord(b []byte, e Event) []byte {
	r := boot.Event{MR: uint32(e.RTMR + 1), Type: e.Type, Digest: e.Digest, Data: e.Data}
	if e.Data == nil {
		r.Data = []byte(boot.RedactedData)
	}
	if !trusteeReads(r.Type, r.Data) {
		r.Type = boot.EvUnused // no digest covers the type, and Trustee does not read this one's data
	}
	return boot.AppendEvent(b, r)
}

func trusteeAccepts(log *boot.Log) bool {
	for _, e := range log.UnverifiedEvents() {
		if e.Type == boot.EvNoAction && e.MR >= 1 && e.MR <= 4 || !trusteeReads(e.Type, e.Data) {
			return false
		}
		n := 0
		for id := range e.Digests() { // it computes each; of SHA-1 it makes an error of the whole
			if n++; id != alg.SHA384 && id != alg.SHA256 && id != alg.SHA512 {
				return false
			}
		}
		if _, extends := e.Extends(); extends && n == 0 {
			return false
		}
	}
	return true
}

func decodeTrustee(data []byte) (*Content, error) {
	var form trusteeEvidence
	if err := canonical.Decode(data, &form); err != nil {
		return nil, fmt.Errorf("trustee evidence: %w", err)
	}
	c := &Content{Form: Trustee, Quote: form.Quote}
	if form.EventLog == nil {
		return c, nil
	}
	log, err := boot.Parse(form.EventLog)
	if err != nil {
		return nil, fmt.Errorf("trustee evidence: %w", err)
	}
	c.Events = bootEvents(log)
	return c, nil
}

func decodeRequest(data []byte) (*Content, error) {
	var form trusteeRequest
	if err := canonical.Decode(data, &form); err != nil {
		return nil, fmt.Errorf("trustee request: %w", err)
	}
	if len(form.Requests) != 1 || form.Requests[0].Hash != hashSHA512 {
		return nil, errors.New("trustee request: must hold one request, hashed with sha512")
	}
	one := form.Requests[0]
	inner, err := base64.RawURLEncoding.Strict().DecodeString(one.Evidence)
	if err != nil {
		return nil, fmt.Errorf("trustee request: evidence: %w", err)
	}
	c, err := decodeTrustee(inner)
	if err != nil {
		return nil, err
	}
	c.Form, c.Claims = TrusteeRequest, one.RuntimeData.Structured
	return c, nil
}
