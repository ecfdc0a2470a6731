package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
)

// In a log that hides no container, others' events are no reference values.
func TestInitLeavesOthersOut(t *testing.T) {
	own, other := json.RawMessage(`{"exec":{"path":"/own"}}`), json.RawMessage(`{"exec":{"path":"/other"}}`)
	idOne, idTwo := strings.Repeat("1", 64), strings.Repeat("2", 64)
	seen := Seen{Claims: &rpc.Claims{Container: &rpc.ContainerClaims{ID: idOne}}, Events: []Event{
		{Operation: "exec", Container: idOne, Measured: own},
		{Operation: "launch", Container: idTwo, Measured: json.RawMessage(`{"launch":{}}`)},
		{Operation: "exec", Container: idTwo, Measured: other},
		{Operation: "missed", Measured: json.RawMessage(`{"missed":{"what":"exec"}}`)},
	}}
	w := &writer{seen: seen}
	if got := w.bodies("exec"); len(got) != 1 || got[0]["path"] != "/own" {
		t.Errorf("executed: %v", got)
	}
	if got := w.bodies("launch"); len(got) != 0 {
		t.Errorf("launched: %v", got)
	}
	if got := w.bodies("missed"); len(got) != 1 {
		t.Errorf("public: %v", got)
	}
}
