package daemon

import (
	"context"
	"crypto/sha512"

	"github.com/cima-project/cima/rpc"
)

// methods are what containers and host processes may call: each about itself.
func (d *Daemon) methods() map[string]rpc.Handler {
	return map[string]rpc.Handler{
		rpc.MethodGetDefaultAlgorithm: rpc.Bind(d.defaultAlgorithm),
		rpc.MethodGetMeasurementCount: rpc.Bind(d.measurementCount),
		rpc.MethodGetCCMeasurement:    rpc.Bind(d.ccMeasurement),
		rpc.MethodGetCCEventLog:       rpc.Bind(d.ccEventLog),
		rpc.MethodGetCCReport:         rpc.Bind(d.ccReport),
		rpc.MethodGetEvidence:         rpc.Bind(d.evidence),
		rpc.MethodGetMeasurements:     rpc.Bind(d.measurements),
		rpc.MethodWhoAmI:              rpc.Bind(d.whoAmI),
	}
}

func (d *Daemon) defaultAlgorithm(context.Context, rpc.NoParams) (rpc.DefaultAlgorithm, error) {
	return rpc.DefaultAlgorithm{AlgoID: rpc.AlgoSHA384, Algorithm: rpc.AlgorithmSHA384}, nil
}

// measurementCount is 4: RTMR0–2 and the container register, which a caller
// in no container hasn't.
func (d *Daemon) measurementCount(ctx context.Context, _ rpc.NoParams) (rpc.MeasurementCount, error) {
	if callerOf(ctx).Container == nil {
		return rpc.MeasurementCount{Count: 3}, nil
	}
	return rpc.MeasurementCount{Count: 4}, nil
}

func (d *Daemon) ccReport(ctx context.Context, p rpc.CCReportParams) (rpc.CCReport, error) {
	c := callerOf(ctx)
	r, err := d.report(ctx, c, p.Nonce, p.UserData)
	if err != nil {
		return rpc.CCReport{}, explain(err)
	}
	d.log.Info("report given", "caller", c.key(), "events", r.at.Count, "nonce", nonceDigest(p.Nonce))
	return rpc.CCReport{CCType: rpc.CCTypeTDX, CCReport: r.quote, Claims: r.claims, AgentSignature: r.signature}, nil
}

func (d *Daemon) whoAmI(ctx context.Context, _ rpc.NoParams) (rpc.Identity, error) {
	c := callerOf(ctx)
	who := rpc.Identity{PID: int32(c.PID), UID: c.UID, GID: c.GID}
	if c.Container == nil {
		who.Host = &rpc.HostClaims{Unit: c.Unit, UID: c.UID}
		return who, nil
	}
	who.Container = &rpc.ContainerIdentity{ID: c.owner, Runtime: c.Container.Runtime, Cgroup: c.Container.CgroupPath}
	// Who somebody is can be said before all is measured, or when the
	// hardware doesn't answer: then without the image.
	f, err := d.measured(ctx, c.instance, c.Check)
	if err != nil {
		d.log.Debug("identity without image", "caller", c.key(), "error", err)
	}
	if f != nil {
		who.Container.Image, who.Container.ImageDigest = f.image.Reference, f.image.Digest
		who.Container.LaunchDigest = &f.launchDigest
	}
	who.Container.Assurance = d.assurance(c, f)
	return who, nil
}

func (d *Daemon) measurements(ctx context.Context, _ rpc.NoParams) (rpc.Measurements, error) {
	c := callerOf(ctx)
	claims, _, err := d.claims(ctx, c)
	if err != nil {
		return rpc.Measurements{}, explain(err)
	}
	now, err := d.opts.TEE.Registers(ctx)
	if err != nil {
		return rpc.Measurements{}, explain(err)
	}
	m := rpc.Measurements{
		MRTD:  rpc.Digest(now.MRTD),
		RTMR0: rpc.Digest(now.RTMR[0]), RTMR1: rpc.Digest(now.RTMR[1]),
		RTMR2: rpc.Digest(now.RTMR[2]), RTMR3: rpc.Digest(now.RTMR[3]),
		Public: claims.Log.Public,
	}
	if claims.Container != nil {
		m.Container, m.LaunchDigest = &claims.Container.Register, &claims.Container.LaunchDigest
	}
	return m, nil
}

func (d *Daemon) ccMeasurement(ctx context.Context, p rpc.CCMeasurementParams) (rpc.CCMeasurement, error) {
	m := rpc.CCMeasurement{Index: p.Index, AlgoID: rpc.AlgoSHA384}
	if p.Index < 3 {
		now, err := d.opts.TEE.Registers(ctx)
		m.Hash = rpc.Digest(now.RTMR[p.Index])
		return m, explain(err)
	}
	c := callerOf(ctx)
	if c.Container == nil {
		return m, rpc.InvalidParams("index", "index 3 is the caller's container register, and this caller is in no container")
	}
	if _, err := d.measured(ctx, c.instance, c.Check); err != nil {
		return m, explain(err)
	}
	s, err := d.ledger.Snapshot(c.owner)
	m.Hash = rpc.Digest(s.Owner.Register)
	return m, explain(err)
}

// nonceDigest names a nonce in the journal without repeating it.
func nonceDigest(nonce []byte) string {
	sum := sha512.Sum384(nonce)
	return hexOf(sum[:8])
}
