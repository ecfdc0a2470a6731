package power

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/packaging/test/engine"
)

// Tests of mounts make some: in namespaces of their own.
func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "without namespaces of its own:", err)
	}
	goleak.VerifyTestMain(m)
}
