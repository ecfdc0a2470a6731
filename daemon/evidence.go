package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// report is a quote and what it is bound to.
type report struct {
	quote     []byte
	claims    json.RawMessage // canonical
	signature []byte
	at        ledger.Snapshot // where the log stood when the claims were fixed
	registers hw.Registers    // the quote's
}

// report fixes the claims, then asks for a quote over them. The log goes on
// growing meanwhile, and no lock is held: the claims say where it stood.
func (d *Daemon) report(ctx context.Context, s *subject, nonce, userData []byte) (*report, error) {
	claims, at, err := d.claims(ctx, s)
	if err != nil {
		return nil, err
	}
	claims.Nonce, claims.UserData = nonce, userData
	r := &report{at: at}
	if r.claims, err = canonicalClaims(claims); err != nil {
		return nil, err
	}
	data, err := rpc.ReportData(r.claims)
	if err != nil {
		return nil, err
	}
	r.signature = rpc.SignReportData(d.key.private, data)
	if r.quote, err = d.quote(ctx, s, data); err != nil {
		return nil, err
	}
	if r.registers, err = hw.QuoteRegisters(r.quote); err != nil {
		return nil, err
	}
	// The container may have ended while the quote was made.
	if err := s.still(ctx); err != nil {
		return nil, refusal(err)
	}
	return r, nil
}

// claims are all that the daemon says of a subject but nonce and user data.
func (d *Daemon) claims(ctx context.Context, s *subject) (rpc.Claims, ledger.Snapshot, error) {
	claims := rpc.Claims{Profile: rpc.ClaimsProfile, Agent: d.key.digest, BootLog: d.bootLogDigest}
	var f *facts
	if s.instance != nil {
		var err error
		if f, err = d.measured(ctx, s.instance, s.still); err != nil {
			return claims, ledger.Snapshot{}, err
		}
	}
	at, err := d.ledger.Snapshot(s.owner)
	if err != nil {
		return claims, at, err
	}
	claims.Log = rpc.LogClaims{
		Count: at.Count, Register: rpc.Digest(at.Register), Public: rpc.Digest(at.Public), Anchor: d.config().Anchor,
	}
	if f == nil {
		claims.Host = &rpc.HostClaims{Unit: s.unit, UID: s.uid}
		return claims, at, nil
	}
	claims.Container = &rpc.ContainerClaims{
		ID:           s.owner,
		Runtime:      s.instance.container.Runtime,
		Image:        f.image.Reference,
		ImageDigest:  f.image.Digest,
		LaunchDigest: f.launchDigest,
		Register:     rpc.Digest(at.Owner.Register),
		Assurance:    assurance(s, f),
	}
	return claims, at, nil
}

// assurance says how sure the daemon is of a container; f may be nil.
func assurance(s *subject, f *facts) rpc.Assurance {
	a := rpc.Assurance{Start: startObserved, PIDFD: s.pidfd, CgroupOwner: s.instance.cgroupOwner}
	if f != nil {
		a.Metadata, a.Start = f.metadata, f.start
	}
	return a
}

// quote waits for its turn, fairly by caller, and no longer than the limit.
func (d *Daemon) quote(ctx context.Context, s *subject, data hw.ReportData) ([]byte, error) {
	if wait := take(s.account.quotes); wait > 0 {
		return nil, rpc.RateLimited(wait, "more than %g quotes a minute: ask again in %v",
			d.config().Limits.QuotesPerMinute, wait.Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.config().Limits.QuoteTimeout))
	defer cancel()
	quote, err := d.quotes.Quote(ctx, s.queue(), data)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, rpc.TEEUnavailable(err, "no quote within %v: ask again later", time.Duration(d.config().Limits.QuoteTimeout))
	}
	return quote, err
}

// evidence is a report with the logs behind its registers.
func (d *Daemon) evidence(ctx context.Context, s *subject, p rpc.EvidenceParams) (*rpc.Evidence, error) {
	r, err := d.report(ctx, s, p.Nonce, p.UserData)
	if err != nil {
		return nil, err
	}
	view, err := d.ledger.View(ctx, s.owner, r.at, r.registers.RTMR[3], d.config().Isolation == isolationNone)
	if err != nil {
		return nil, err
	}
	e := &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "tdx", Quote: r.quote, Claims: r.claims,
		AgentSignature: r.signature, BootLog: d.bootLog,
		RuntimeLog: make([]rpc.LogEntry, 0, len(view)),
	}
	for _, entry := range view {
		e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Event: entry.Event, Digests: entry.Digests})
	}
	d.log.Info("evidence given", "caller", s, "events", r.at.Count, "nonce", nonceDigest(p.Nonce))
	return e, nil
}

// canonicalClaims are the claims as they are hashed and sent.
func canonicalClaims(claims rpc.Claims) (json.RawMessage, error) {
	plain, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return jcs.Transform(plain)
}
