package ima

import (
	"strings"
	"testing"
)

func TestBootAggregate(t *testing.T) {
	zero, digest := strings.Repeat("0", 96), "sha384:"+strings.Repeat("ab", 48)
	hash := strings.Repeat("1", 96)
	for line, want := range map[string]bool{
		hash + " ima-ng " + digest + " boot_aggregate":                                  true,
		hash + " ima-sig " + digest + " boot_aggregate ":                                true,
		hash + " ima-cgpath swapper/0:swapper/0 / " + digest + " boot_aggregate":        true,
		hash + " ima-ng " + digest + " /boot_aggregate":                                 false,
		hash + " ima-ng " + digest + " boot_aggregate2":                                 false,
		zero + " ima-ng " + digest + " boot_aggregate":                                  false, // a violation
		strings.Repeat("1", 40) + " ima " + strings.Repeat("0", 40) + " boot_aggregate": false,
		// These template data could be an LZMA stream or a program.
		hash + " ima-cgpath " + strings.Repeat("x", 0x5c) + " / " + digest + " boot_aggregate": false,
		hash + " buf|n-ng " + strings.Repeat("90", 0x5a4d) + " boot_aggregate":                 false,
		hash + " buf|n-ng  boot_aggregate":                                                     false,
		hash + " ima-unknown " + digest + " boot_aggregate":                                    false,
	} {
		e, err := NewReader(strings.NewReader("10 " + line + "\n")).Next()
		if err != nil {
			t.Fatalf("%.80s: %v", line, err)
		}
		if got := e.BootAggregate(); got != want {
			t.Errorf("%.80s: %v", line, got)
		}
	}
}
