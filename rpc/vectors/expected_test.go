package vectors

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// expected replays a bundle with this project's own packages.
func expected(t *testing.T, bundle []byte) Bundle {
	t.Helper()
	e, c, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rpc.ReportData(e.Claims)
	if err != nil {
		t.Fatal(err)
	}
	if e.Shared != nil {
		if data, err = e.Shared.ReportData(data); err != nil {
			t.Fatal(err)
		}
	}
	b := Bundle{Expect: Agrees, Nonce: hex.EncodeToString(c.Nonce), ReportData: hex.EncodeToString(data[:])}
	var rtmr3, register, public, own canonical.Digest
	body := map[string]json.RawMessage{}
	n := 0
	extend := func(digest [48]byte) {
		rtmr3 = rtmr3.Extend(digest)
		if n++; n <= c.Log.Count {
			register = rtmr3
		}
	}
	for _, entry := range e.RuntimeLog {
		for at := 0; at < len(entry.Digests); at += 48 {
			extend([48]byte(entry.Digests[at:]))
		}
		if entry.Event == nil {
			continue
		}
		event, err := logs.ParseEvent(entry.Event)
		if err != nil {
			t.Fatal(err)
		}
		extend(event.Digest())
		measured, some := event.MeasuredDigest()
		switch {
		case !some || n > c.Log.Count:
		case logs.Public(event.Operation):
			public = public.Extend(measured)
		default:
			if event.Operation == logs.OpLaunch {
				own, body = canonical.Digest{}, map[string]json.RawMessage{}
			}
			own = own.Extend(measured)
			body[event.Operation] = event.Body()
		}
	}
	b.RTMR3, b.Register, b.Public = hex.EncodeToString(rtmr3[:]), hex.EncodeToString(register[:]), hex.EncodeToString(public[:])
	if c.Container != nil {
		b.Container = hex.EncodeToString(own[:])
		b.LaunchDigest, b.DefaultsDigest = digests(t, body[logs.OpLaunch], body[logs.OpImage])
	}
	return b
}

// digests are launch digest and defaults digest, with the daemon's own package.
func digests(t *testing.T, launched, image json.RawMessage) (whole, defaults string) {
	t.Helper()
	var l launch.Launch
	var i launch.Image
	if err := errors.Join(json.Unmarshal(launched, &l), json.Unmarshal(image, &i)); err != nil {
		t.Fatal(err)
	}
	digest, err := launch.Digest(l, i)
	if err != nil {
		t.Fatal(err)
	}
	added, err := launch.DefaultsDigest(l)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(digest[:]), hex.EncodeToString(added[:])
}
