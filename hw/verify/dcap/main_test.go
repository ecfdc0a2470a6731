package dcap

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
