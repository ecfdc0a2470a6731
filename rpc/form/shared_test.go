package form

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/rpc"
)

// TestShared: whole forms keep the proof of a shared quote; Trustee's can't
// have it, and say so, rather than leave it out.
func TestShared(t *testing.T) {
	e := evidence(t, bootLog(false))
	for _, e.Shared = range []*rpc.Shared{
		{Size: 1, Path: []rpc.Digest{}},
		{Size: 3, Index: 1, Path: []rpc.Digest{{1}, {2}}},
	} {
		for _, form := range []string{CIMA, CMW, CMWCBOR} {
			text, err := Encode(e, form)
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			got, err := Decode(text)
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if diff := cmp.Diff(e, got.Evidence); diff != "" {
				t.Errorf("%s: %s", form, diff)
			}
		}
		for _, form := range []string{Trustee, TrusteeRequest} {
			if text, err := Encode(e, form); err == nil || !strings.Contains(err.Error(), "not shared") {
				t.Errorf("%s: %v, %.80s", form, err, text)
			}
		}
	}
}
