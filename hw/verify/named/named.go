// Package named answers: which digests of evidence can a policy name, to revoke them?
package named

import (
	"iter"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// OfQuote yields the digests in a TD's quote, and in the boot log. It is false once yield was.
func OfQuote(q *dcap.Quote, now policy.Booted, yield func(what, digest string) bool) bool {
	for _, d := range []struct {
		what   string
		digest hw.Digest
	}{
		{"MRTD", q.Registers.MRTD}, {"MRSEAM", q.Module}, {"MRCONFIGID", q.ConfigID}, {"MROWNER", q.Owner}, {"MROWNERCONFIG", q.OwnerConf},
		{"RTMR0", now.RTMR[0]}, {"RTMR1", now.RTMR[1]}, {"RTMR2", now.RTMR[2]},
	} {
		if !yield(d.what, d.digest.String()) {
			return false
		}
	}
	for _, d := range q.ServiceTDs() {
		if !yield("service TD", d.String()) {
			return false
		}
	}
	if now.Log == nil {
		return true
	}
	for _, e := range now.Log.UnverifiedEvents() { // proved by now: they replay to the quote's registers
		if !yield("boot event", hw.Digest(e.Digest).String()) {
			return false
		}
	}
	return true
}

// Of are all digests in evidence, of which now is the boot and in the caller's instance.
func Of(ev *evidence.Bundle, now policy.Booted, in *instances.Instance) iter.Seq2[string, string] {
	return func(yield func(what, digest string) bool) {
		if !ofPlatform(ev, now, yield) {
			return
		}
		for e := range ev.ShownEvents() {
			if e.Container == "" && !eventDigests(e, yield) {
				return
			}
		}
		if in == nil || in.Launch == nil {
			return
		}
		for _, e := range in.Events {
			if !eventDigests(e, yield) {
				return
			}
		}
		if !yield("launch", in.LaunchSum.String()) || !yield("defaults", in.DefaultsDigest.String()) ||
			!yield("image", in.Image.Digest) || !yield("image", in.Image.Manifest) {
			return
		}
		for _, layer := range in.Image.Layers {
			if !yield("layer", layer) {
				return
			}
		}
	}
}

func ofPlatform(ev *evidence.Bundle, now policy.Booted, yield func(what, digest string) bool) bool {
	for what, digest := range ev.Measured() {
		if !yield(what, digest) {
			return false
		}
	}
	if ev.SNP == nil {
		return OfQuote(ev.Quote, now, yield)
	}
	r := ev.SNP
	return yield("MEASUREMENT", hw.Digest(r.Measurement).String()) && yield("ID_KEY_DIGEST", hw.Digest(r.IDKeyDigest).String()) &&
		yield("AUTHOR_KEY_DIGEST", hw.Digest(r.AuthorDigest).String())
}

// eventDigests are those of programs.
func eventDigests(e *logs.Event, yield func(what, digest string) bool) bool {
	switch e.Operation {
	case logs.OpStart, logs.OpSystem, logs.OpExec:
	default:
		return true
	}
	var body struct {
		Executable string `json:"executable"`
		SHA384     string `json:"sha384"`
		Verity     string `json:"verity"`
	}
	if canonical.Decode(e.Body(), &body) != nil {
		return true
	}
	return yield("the agent", body.Executable) && yield("a program", body.SHA384) && yield("a program", body.Verity)
}
