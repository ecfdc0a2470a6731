package records

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/packaging/test/engine"
)

func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "without engines:", err)
	}
	goleak.VerifyTestMain(m)
}
