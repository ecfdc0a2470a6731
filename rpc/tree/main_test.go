package tree

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	json "encoding/json/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// container is a daemon as one container sees it. What it gives for evidence is what it was
// asked for.
type container struct {
	wait <-chan struct{} // a quote takes until then

	mu     sync.Mutex
	calls  int
	errors []error // of the next calls
}

func (d *container) GetEvidence(ctx context.Context, p rpc.EvidenceParams) (jsontext.Value, error) {
	d.mu.Lock()
	d.calls++
	var err error
	if len(d.errors) > 0 {
		err, d.errors = d.errors[0], d.errors[1:]
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if d.wait != nil {
		select {
		case <-d.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return json.Marshal([][]byte{p.Nonce, p.UserData})
}

func (d *container) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// proves reports whether a proof binds this to who sent the nonce.
func proves(t *testing.T, p *Proof, b Binding, nonce []byte) bool {
	t.Helper()
	var of [][]byte
	if err := json.Unmarshal(p.Evidence, &of); err != nil {
		t.Fatal(err)
	}
	must, userData, err := p.Bound(b, nonce)
	return err == nil && bytes.Equal(of[0], must) && bytes.Equal(of[1], userData)
}

func binding(t *testing.T, data string) Binding {
	t.Helper()
	b, err := Of("https://example.org/key/v1", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
