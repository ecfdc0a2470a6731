package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

func TestResultIsJSON(t *testing.T) {
	w := twoContainers(t)
	text, err := json.Marshal(appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Verdict  string
		ExitCode int `json:"exit_code"`
		Steps    []struct{ Name, Outcome, Detail string }
		Claims   struct{ Nonce []byte }
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Verdict != "authentic, not trusted" || back.ExitCode != 4 || len(back.Steps) != len(claimSteps) ||
		back.Steps[0].Name != "format" || back.Steps[0].Outcome != "pass" || !bytes.Equal(back.Claims.Nonce, testNonce) {
		t.Errorf("read back: %+v\n%s", back, text)
	}
	if strings.Contains(string(text), base64.StdEncoding.EncodeToString(w.log[1].Bytes())) {
		t.Error("measured events are base64, not JSON")
	}
}
