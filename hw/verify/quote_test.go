package verify

import (
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-tdx-guest/testing/testdata"
)

// TestNothingIsPrinted: the quote library's logger writes to the stdout that
// it finds at start, so this runs in a process of its own.
func TestNothingIsPrinted(t *testing.T) {
	const child = "CIMA_TEST_APPRAISE_AND_EXIT"
	if os.Getenv(child) != "" {
		w := twoContainers(t)
		e := w.evidence(idOne)
		appraiseT(t, encode(t, e), w.options())
		appraiseT(t, encode(t, e), Options{})
		e.Quote = cut(t, testdata.RawQuote)
		appraiseT(t, encode(t, e), Options{})
		os.Exit(0)
	}
	self := exec.Command(os.Args[0], "-test.run=^TestNothingIsPrinted$")
	self.Env = append(os.Environ(), child+"=1")
	if printed, err := self.CombinedOutput(); err != nil || len(printed) > 0 {
		t.Errorf("printed %q, %v", printed, err)
	}
}
