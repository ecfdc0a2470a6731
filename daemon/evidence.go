package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
)

// report is a quote and what it is bound to.
type report struct {
	quote     []byte
	claims    json.RawMessage // canonical
	shared    *rpc.Shared     // nil: the quote is over these claims alone
	signature []byte
	at        ledger.Snapshot // where the log stood when the claims were fixed
	registers hw.Registers    // the quote's
	payment
}

// givenQuotes counts the quotes that callers were given since the daemon started.
type givenQuotes struct{ alone, shared atomic.Uint64 }

// payment is what a result cost; it is given back if the result has no room to be
// sent (rpc.Unsent).
type payment struct{ by *account } // nil: nothing

// Unsent is for rpc's server.
func (p payment) Unsent() {
	if p.by != nil {
		p.by.quotes.AllowN(time.Now(), -1)
	}
}

// Results that were paid for.
type (
	paidReport struct {
		rpc.CCReport
		payment
	}
	paidEvidence struct {
		*rpc.Evidence
		payment
	}
	paidForm struct {
		rpc.FormedEvidence
		payment
	}
)

// report fixes the claims, then asks for a quote over them. The log goes on
// growing meanwhile, and no lock is held: the claims say where it stood.
func (d *Daemon) report(ctx context.Context, s *subject, p rpc.CCReportParams) (*report, error) {
	claims, at, err := d.claims(ctx, s)
	if err != nil {
		return nil, err
	}
	claims.Nonce, claims.UserData = p.Nonce, p.UserData
	r := &report{at: at}
	if r.claims, err = canonical.Marshal(claims); err != nil {
		return nil, err
	}
	data, err := rpc.ReportData(r.claims)
	if err != nil {
		return nil, err
	}
	r.signature = rpc.SignReportData(d.key.private, data)
	if r.quote, r.shared, err = d.quote(ctx, s, data, p.Shared, &r.payment); err != nil {
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
	if err := d.ledger.Ready(ctx); err != nil {
		return claims, ledger.Snapshot{}, err
	}
	var f *containers.Facts
	if s.instance != nil {
		var err error
		if f, err = d.facts(ctx, s); err != nil {
			return claims, ledger.Snapshot{}, err
		}
	}
	at, err := d.ledger.Snapshot(s.owner)
	if err != nil {
		return claims, at, err
	}
	claims.Log = rpc.LogClaims{
		Count: at.Count, Register: at.Register, Public: at.Public, Anchor: d.config().Anchor,
	}
	switch d.config().Isolation {
	case config.IsolationNone:
		claims.Log.View = rpc.ViewWhole
	case config.IsolationPrivate:
		claims.Log.View = rpc.ViewPrivate
	}
	if f != nil && at.Owner.Instance != f.Instance {
		return claims, at, ledger.ErrReplaced
	}
	if f == nil {
		claims.Host = &rpc.HostClaims{Unit: s.unit, UID: s.uid}
		return claims, at, nil
	}
	claims.Container = &rpc.ContainerClaims{
		ID:           s.owner,
		Runtime:      s.instance.Container.Runtime,
		Image:        f.Image.Reference,
		ImageDigest:  f.Image.Digest,
		LaunchDigest: f.LaunchDigest,
		Register:     at.Owner.Register,
		Assurance:    assurance(s, f),
	}
	return claims, at, nil
}

// assurance says how sure the daemon is of a container; f may be nil.
func assurance(s *subject, f *containers.Facts) rpc.Assurance {
	a := rpc.Assurance{Start: logs.StartObserved, PIDFD: s.pidfd, CgroupOwner: s.instance.CgroupOwner}
	if f != nil {
		a.Metadata, a.Start = f.Metadata, f.Start
	}
	return a
}

// quote waits for its turn, fairly by caller, and no longer than the limit.
// Where it is shared, it comes with the proof that data has a part in it.
func (d *Daemon) quote(ctx context.Context, s *subject, data hw.ReportData, share bool, paid *payment) (quote []byte, proof *rpc.Shared, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.config().Limits.QuoteTimeout))
	defer cancel()
	charge := func() error { return d.chargeQuote(s, paid) }
	if share {
		quote, proof, err = d.batches.Quote(ctx, s.payer, data, charge)
	} else if err = charge(); err == nil {
		quote, err = d.quotes.Quote(ctx, s.queue(), data)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = rpc.TEEUnavailable(err, "no quote within %v: ask again later", time.Duration(d.config().Limits.QuoteTimeout))
	}
	switch {
	case err != nil:
	case share:
		d.given.shared.Add(1)
	default:
		d.given.alone.Add(1)
	}
	return quote, proof, err
}

// chargeQuote takes a quote from the allowance of whoever pays.
func (d *Daemon) chargeQuote(s *subject, paid *payment) error {
	if wait := take(s.account.quotes); wait > 0 {
		return rpc.RateLimited(wait, "more than %g quotes a minute: ask again in %v",
			d.config().Limits.QuotesPerMinute, wait.Round(time.Millisecond))
	}
	paid.by = s.account
	return nil
}

// evidence is a report with the logs behind its registers.
func (d *Daemon) evidence(ctx context.Context, s *subject, p rpc.EvidenceParams) (any, error) {
	e, err := d.bundle(ctx, s, p)
	if err != nil {
		return nil, err
	}
	if p.Format == "" || p.Format == rpc.FormatCIMA {
		return e, nil
	}
	content, err := form.Encode(e.Evidence, p.Format)
	if err != nil {
		return nil, err
	}
	return paidForm{rpc.FormedEvidence{Format: p.Format, Content: content}, e.payment}, nil
}

func (d *Daemon) bundle(ctx context.Context, s *subject, p rpc.EvidenceParams) (*paidEvidence, error) {
	r, err := d.report(ctx, s, rpc.CCReportParams{Nonce: p.Nonce, UserData: p.UserData, Shared: p.Shared})
	if err != nil {
		return nil, err
	}
	view, err := d.ledger.View(ctx, s.owner, r.at, r.registers.RTMR[3], d.config().Show())
	if err != nil {
		return nil, err
	}
	osLogs, err := d.osLogs(s, r.registers.RTMR[2])
	if err != nil {
		return nil, err
	}
	e := &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "tdx", Quote: r.quote, Claims: r.claims, Shared: r.shared,
		AgentSignature: r.signature, BootLog: d.bootLog, OSLogs: osLogs,
		RuntimeLog: make([]rpc.LogEntry, 0, len(view)),
	}
	for _, entry := range view {
		e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Event: entry.Event, Digests: entry.Digests})
	}
	d.log.Info("evidence given", "caller", s, "events", r.at.Count, "nonce", nonceDigest(p.Nonce), "sharing", r.sharing())
	return &paidEvidence{e, r.payment}, nil
}

// sharing is how many claims the quote is over, for the journal.
func (r *report) sharing() int {
	if r.shared == nil {
		return 1
	}
	return r.shared.Size
}
