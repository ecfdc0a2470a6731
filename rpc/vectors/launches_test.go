package vectors

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/cima-project/cima/hw/verify/launches"
)

// The daemon and the verifier, which share no code for it, give launches the digests of
// the vectors. A launch without one is of an earlier version.
func TestLaunches(t *testing.T) {
	text, err := os.ReadFile("launches.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		About          string
		Launch, Image  json.RawMessage
		LaunchDigest   string `json:"launch_digest"`
		DefaultsDigest string `json:"defaults_digest"`
	}
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 14 {
		t.Fatalf("%d launches, %v", len(all), err)
	}
	for _, v := range all {
		t.Run(v.About, func(t *testing.T) {
			m := launches.Measured{}
			var err error
			if m.Launch, err = launches.Read([]byte(v.Launch)); err != nil {
				t.Fatal(err)
			}
			if m.Image, err = launches.ReadImage([]byte(v.Image)); err != nil {
				t.Fatal(err)
			}
			if m.Earlier {
				if v.LaunchDigest+v.DefaultsDigest != "" {
					t.Error("an earlier version's launch must have no digest")
				}
				return
			}
			digest, err := m.Digest()
			if err != nil || digest.String() != v.LaunchDigest {
				t.Errorf("verifier: launch digest %v, %v; want %s", digest, err, v.LaunchDigest)
			}
			if got := m.DefaultsDigest.String(); got != v.DefaultsDigest && v.DefaultsDigest != "" {
				t.Errorf("verifier: defaults digest %s, want %s", got, v.DefaultsDigest)
			}
			whole, defaults := digests(t, v.Launch, v.Image)
			if whole != v.LaunchDigest || v.DefaultsDigest != "" && defaults != v.DefaultsDigest {
				t.Errorf("daemon: digests %s, %s; want %s, %s", whole, defaults, v.LaunchDigest, v.DefaultsDigest)
			}
		})
	}
}
