package api

import (
	"context"
	"crypto/sha512"
	"encoding/hex"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// methods is the method table (cima-api(7), METHODS).
func methods() []method {
	return []method{
		about(rpc.MethodGetDefaultAlgorithm, read, (*API).defaultAlgorithm).inlined(),
		about(rpc.MethodGetMeasurementCount, read, (*API).measurementCount).inlined(),
		about(rpc.MethodGetCCMeasurement, read, (*API).ccMeasurement).inlined(),
		about(rpc.MethodGetCCEventLog, read, (*API).ccEventLog).giving(rpc.CCEventLog{}),
		about(rpc.MethodGetCCReport, read, (*API).ccReport).giving(rpc.CCReport{}),
		about(rpc.MethodGetEvidence, read, (*API).evidence).giving(rpc.Evidence{}, rpc.FormedEvidence{}),
		about(rpc.MethodGetMeasurements, read, (*API).measurements),
		about(rpc.MethodExtendMeasurement, attest, (*API).extendMeasurement),
		about(rpc.MethodWhoAmI, read, (*API).whoAmI).inlined(),
	}
}

func (a *API) defaultAlgorithm(context.Context, *subject, rpc.NoParams) (rpc.DefaultAlgorithm, error) {
	return rpc.DefaultAlgorithm{AlgoID: rpc.AlgoSHA384, Algorithm: rpc.AlgorithmSHA384}, nil
}

// measurementCount is 4: RTMR0–2 and the container register. A caller in no container
// has 3.
func (a *API) measurementCount(_ context.Context, s *subject, _ rpc.NoParams) (rpc.MeasurementCount, error) {
	if s.instance == nil {
		return rpc.MeasurementCount{Count: 3}, nil
	}
	return rpc.MeasurementCount{Count: 4}, nil
}

func (a *API) ccReport(ctx context.Context, s *subject, p rpc.CCReportParams) (any, error) {
	r, err := a.report(ctx, s, p)
	if err != nil {
		return nil, err
	}
	a.Log.Info("report given", "caller", s, "events", r.at.Count, "nonce", nonceDigest(p.Nonce), "sharing", r.sharing())
	return paidReport{rpc.CCReport{
		CCType: ccType(a.TEE.Parts().TEE), CCReport: r.Quote, Claims: r.claims, Shared: r.shared, AgentSignature: r.signature,
	}, r.payment}, nil
}

func (a *API) whoAmI(ctx context.Context, s *subject, _ rpc.NoParams) (rpc.Identity, error) {
	c := callerOf(ctx)
	who := rpc.Identity{PID: int32(c.PID), UID: c.UID, GID: c.GID}
	if s.instance == nil {
		who.Host = &rpc.HostClaims{Unit: s.unit, UID: s.uid}
		return who, nil
	}
	if server.MayWait(ctx) != nil { // without facts it is no inline answer
		if _, err := a.facts(ctx, s); err != nil {
			return who, err
		}
	}
	who.Container = a.identity(ctx, s)
	return who, nil
}

// identity is what is known of a container. Before the container is measured, or while
// the hardware doesn't answer, the image is left out.
func (a *API) identity(ctx context.Context, s *subject) *rpc.ContainerIdentity {
	i := s.instance
	f, err := a.facts(ctx, s)
	if err != nil {
		a.Log.Debug("identity without image", "caller", s, "error", err)
	}
	id := &rpc.ContainerIdentity{
		ID: i.Owner, Runtime: i.Container.Runtime, Cgroup: i.Container.CgroupPath, Assurance: assurance(s, f),
	}
	if f != nil {
		id.Image, id.ImageDigest, id.LaunchDigest = f.Image.Reference, f.Image.Digest, known(&f.LaunchDigest)
		id.Pod = podClaims(f.Pod)
	}
	return id
}

func (a *API) measurements(ctx context.Context, s *subject, _ rpc.NoParams) (rpc.Measurements, error) {
	claims, _, err := a.claims(ctx, s)
	if err != nil {
		return rpc.Measurements{}, err
	}
	now, err := a.registers(ctx)
	if err != nil {
		return rpc.Measurements{}, err
	}
	m := rpc.Measurements{
		MRTD:  now.MRTD,
		RTMR0: now.RTMR[0], RTMR1: now.RTMR[1],
		RTMR2: now.RTMR[2], RTMR3: now.RTMR[3],
		Public: claims.Log.Public,
	}
	if claims.Container != nil {
		m.Container, m.LaunchDigest = &claims.Container.Register, known(&claims.Container.LaunchDigest)
	}
	return m, nil
}

// known is a launch digest, or nil where there is none: a daemon of an earlier version
// logged the launch.
func known(d *rpc.Digest) *rpc.Digest {
	if *d == (rpc.Digest{}) {
		return nil
	}
	return d
}

func (a *API) ccMeasurement(ctx context.Context, s *subject, p rpc.CCMeasurementParams) (rpc.CCMeasurement, error) {
	m := rpc.CCMeasurement{Index: p.Index, AlgoID: rpc.AlgoSHA384}
	if p.Index < 3 {
		if err := server.MayWait(ctx); err != nil { // the hardware is asked
			return m, err
		}
		now, err := a.registers(ctx)
		m.Hash = now.RTMR[p.Index]
		return m, err
	}
	if s.instance == nil {
		return m, rpc.InvalidParams("index", "index 3 is the caller's container register, and this caller is in no container")
	}
	if _, err := a.facts(ctx, s); err != nil {
		return m, err
	}
	at, err := a.Ledger.Snapshot(s.owner)
	m.Hash = at.Owner.Register
	return m, err
}

// extendMeasurement logs an event of the container's own. From then on the event is in
// the container register, and so in evidence.
func (a *API) extendMeasurement(ctx context.Context, s *subject, p rpc.ExtendParams) (rpc.Extended, error) {
	if s.instance == nil {
		return rpc.Extended{}, rpc.Denied("only a container has a register of its own to extend")
	}
	if len(p.Content) > rpc.MaxExtendContent {
		return rpc.Extended{}, rpc.TooLarge(rpc.MaxExtendContent, "content has %d bytes and must have at most %d", len(p.Content), rpc.MaxExtendContent)
	}
	f, err := a.facts(ctx, s)
	if err != nil {
		return rpc.Extended{}, err
	}
	if err := s.checkSame(ctx); err != nil {
		return rpc.Extended{}, refusal(err)
	}
	event, err := a.Ledger.Append(ctx, ledger.Event{
		Operation: logs.OpExtend, Owner: s.owner, Instance: f.Instance, Measured: logs.ExtendBody{Domain: p.Domain, Operation: p.Operation, Content: p.Content},
	})
	if err != nil {
		return rpc.Extended{}, err
	}
	digest, _ := event.MeasuredDigest()
	a.Log.Info("extended", "caller", s, "domain", p.Domain, "operation", p.Operation)
	return rpc.Extended{Index: 3, Digest: digest}, nil
}

// nonceDigest names a nonce in the journal: its digest, cut short.
func nonceDigest(nonce []byte) string {
	sum := sha512.Sum384(nonce)
	return hex.EncodeToString(sum[:8])
}
