package server

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if kind, path, ok := strings.Cut(os.Getenv(processServer), ":"); ok {
		serveProcess(kind, path)
		return
	}
	goleak.VerifyTestMain(m)
}
