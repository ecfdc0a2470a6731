package dcap

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestIntelRoot(t *testing.T) {
	const published = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" // SHA-256 of IntelSGXRootCA.der
	sum := sha256.Sum256(IntelRoot().Raw)
	if got := hex.EncodeToString(sum[:]); got != published {
		t.Errorf("the built-in root has SHA-256 %s, not %s", got, published)
	}
}
