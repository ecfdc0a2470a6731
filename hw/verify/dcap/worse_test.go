package dcap

import (
	"slices"
	"testing"
)

// No part hides what the other says of itself.
func TestWorse(t *testing.T) {
	order := []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"}
	for i, a := range order {
		for j, b := range order {
			got := worse(a, b)
			if at := slices.Index(order, got); at < max(i, j) || got != worse(b, a) {
				t.Errorf("%s and %s make %s", a, b, got)
			}
		}
		if worse(a, a) != a || worse("", a) != a || worse(a, StatusUpToDate) != a {
			t.Errorf("%s alone makes %s", a, worse(a, a))
		}
	}
	// As Intel's quote verification library joins a platform with an enclave out of date.
	for platform, want := range map[string]string{
		"UpToDate": "OutOfDate", "SWHardeningNeeded": "OutOfDate", "OutOfDate": "OutOfDate", "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
		"ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded", "Revoked": "Revoked",
	} {
		if got := worse(platform, "OutOfDate"); got != want {
			t.Errorf("%s, enclave out of date: %s", platform, got)
		}
	}
	if got := worse("OutOfDate", "Strange"); got != "Strange" {
		t.Errorf("a status that nobody knows: %s", got)
	}
}
