package api

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
	"github.com/cima-project/cima/rpc/server"
)

// report is a quote, and the claims that it is bound to.
type report struct {
	hw.Signed
	claims    jsontext.Value // canonical
	shared    *rpc.Shared    // nil: the quote is over these claims alone
	signature []byte
	at        ledger.Snapshot // where the log stood when the claims were fixed
	payment
}

// givenQuotes counts the quotes that callers were given since the daemon started.
type givenQuotes struct{ alone, shared atomic.Uint64 }

// payment is the quote that a result cost. It is given back if the result is too large
// to be sent (server.Unsent).
type payment struct{ by *account } // nil: nothing

// Unsent gives the payment back; rpc/server calls it.
func (p payment) Unsent() {
	if p.by != nil {
		p.by.quotes.AllowN(time.Now(), -1)
	}
}

// Results that cost a quote.
type (
	paidReport struct {
		rpc.CCReport
		payment `json:"-"`
	}
	paidEvidence struct {
		*rpc.Evidence
		payment `json:"-"`
	}
	paidForm struct {
		rpc.FormedEvidence
		payment `json:"-"`
	}
)

// report fixes the claims, then asks for a quote over them. No lock is held, and the
// log grows meanwhile: the claims name the position up to which it counts.
func (a *API) report(ctx context.Context, s *subject, p rpc.CCReportParams) (*report, error) {
	claims, at, err := a.claims(ctx, s)
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
	r.signature = rpc.SignReportData(a.Key, data)
	var quote []byte
	if quote, r.shared, err = a.quote(ctx, s, data, p.Shared, &r.payment); err != nil {
		return nil, err
	}
	if r.Signed, err = a.TEE.Open(quote); err != nil {
		return nil, err
	}
	// The container may have ended while the quote was made.
	if err := s.checkSame(ctx); err != nil {
		return nil, refusal(err)
	}
	return r, nil
}

// claims are the claims about a subject, without nonce and user data.
func (a *API) claims(ctx context.Context, s *subject) (rpc.Claims, ledger.Snapshot, error) {
	claims := rpc.Claims{Profile: rpc.ClaimsProfile, Agent: a.agent, BootLog: a.bootLogDigest}
	if form := a.TEE.Parts().BootLog; form != hw.BootLogCCEL {
		claims.BootLogFormat = form
	}
	if err := a.Ledger.Ready(ctx); err != nil {
		return claims, ledger.Snapshot{}, err
	}
	var f *containers.Facts
	if s.instance != nil {
		var err error
		if f, err = a.facts(ctx, s); err != nil {
			return claims, ledger.Snapshot{}, err
		}
	}
	at, err := a.Ledger.Snapshot(s.owner)
	if err != nil {
		return claims, at, err
	}
	claims.Log = rpc.LogClaims{
		Count: at.Count, Register: at.Register, Public: at.Public, Anchor: a.Config().Anchor, PublicCount: at.Publics,
	}
	switch a.Config().Isolation {
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
		ID:             s.owner,
		Runtime:        s.instance.Container.Runtime,
		Image:          f.Image.Reference,
		ImageDigest:    f.Image.Digest,
		LaunchDigest:   f.LaunchDigest,
		DefaultsDigest: f.DefaultsDigest,
		Register:       at.Owner.Register,
		Assurance:      assurance(s, f),
		Pod:            podClaims(f.Pod),
	}
	return claims, at, nil
}

func podClaims(p launch.Pod) rpc.PodClaims {
	return rpc.PodClaims{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Container: p.Container}
}

// assurance says how the daemon knows a container; f may be nil.
func assurance(s *subject, f *containers.Facts) rpc.Assurance {
	claimed := rpc.Assurance{Start: logs.StartObserved, PIDFD: s.pidfd, CgroupOwner: s.instance.CgroupOwner}
	if f != nil {
		claimed.Metadata, claimed.Start = f.Metadata, f.Start
	}
	return claimed
}

// quote waits for a quote over data, in turn with other payers and no longer than
// limits.quote_timeout. A shared quote comes with the proof that data is a leaf of its
// tree.
func (a *API) quote(ctx context.Context, s *subject, data hw.ReportData, share bool, paid *payment) (quote []byte, proof *rpc.Shared, err error) {
	inTime, cancel := context.WithTimeout(ctx, time.Duration(a.Config().Limits.QuoteTimeout))
	defer cancel()
	gone := server.Aside(ctx, func() {
		if share {
			quote, proof, err = a.sharedQuote(inTime, s, data, paid)
		} else if err = a.chargeQuote(s, paid); err == nil {
			quote, err = a.queue.Quote(inTime, s.queue(), data)
		}
	})
	if err == nil {
		err = gone
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = rpc.TEEUnavailable(err, "no quote within %v: ask again later", time.Duration(a.Config().Limits.QuoteTimeout))
	}
	switch {
	case err != nil:
	case share:
		a.given.shared.Add(1)
	default:
		a.given.alone.Add(1)
	}
	return quote, proof, err
}

// sharedQuote waits for a quote that others share. Beyond its payer's rate it waits for
// the payer's next quote, together with all other callers of that payer who share.
func (a *API) sharedQuote(ctx context.Context, s *subject, data hw.ReportData, paid *payment) ([]byte, *rpc.Shared, error) {
	quote, proof, err := a.batches.Quote(ctx, s.payer, data, func() error { return a.chargeQuote(s, paid) })
	var limited *rpc.Error
	if !errors.As(err, &limited) || limited.Code != rpc.CodeRateLimited {
		return quote, proof, err
	}
	if err := s.account.nextQuote(ctx, limited); err != nil {
		return nil, nil, err
	}
	return a.batches.Quote(ctx, s.payer, data, func() error { return nil }) // it is paid for
}

// chargeQuote takes a quote from the subject's account. It notes the account in paid,
// so that the quote can be given back.
func (a *API) chargeQuote(s *subject, paid *payment) error {
	if wait := acquire(s.account.quotes); wait > 0 {
		return rpc.RateLimited(wait, "more than %g quotes a minute: ask again in %v",
			float64(s.account.quotes.Limit())*60, wait.Round(time.Millisecond))
	}
	paid.by = s.account
	return nil
}

// evidence is a report with the logs that replay to its registers.
func (a *API) evidence(ctx context.Context, s *subject, p rpc.EvidenceParams) (any, error) {
	e, err := a.bundle(ctx, s, p)
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

func (a *API) bundle(ctx context.Context, s *subject, p rpc.EvidenceParams) (*paidEvidence, error) {
	r, err := a.report(ctx, s, rpc.CCReportParams{Nonce: p.Nonce, UserData: p.UserData, Shared: p.Shared})
	if err != nil {
		return nil, err
	}
	view, err := a.Ledger.View(ctx, s.owner, r.at, r.Registers, a.Config().Show())
	if err != nil {
		return nil, err
	}
	osLogs, err := a.osLogs(s, r.Registers.RTMR[2])
	if err != nil {
		return nil, err
	}
	e := &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: a.TEE.Parts().TEE, Quote: r.Quote, Platform: r.platform(), Claims: r.claims, Shared: r.shared,
		AgentSignature: r.signature, BootLog: a.BootLog, OSLogs: osLogs,
		RuntimeLog: make([]rpc.LogEntry, 0, len(view)),
	}
	for _, entry := range view {
		e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Event: entry.Event, Digests: entry.Digests})
	}
	a.Log.Info("evidence given", "caller", s, "events", r.at.Count, "nonce", nonceDigest(p.Nonce), "sharing", r.sharing())
	return &paidEvidence{e, r.payment}, nil
}

// ccType is the platform's number in CIMA 0.5.
func ccType(tee string) int {
	if tee == hw.TEETDX {
		return rpc.CCTypeTDX
	}
	return rpc.CCTypeSEV
}

// platform is what else was signed, as it travels.
func (r *report) platform() rpc.Platform {
	return rpc.Platform{
		Certificates: r.Certificates, RuntimeData: r.RuntimeData,
		TPMQuote: r.TPMQuote, TPMSignature: r.TPMSignature, PCRs: r.PCRs,
	}
}

// sharing is the number of claims that the quote is over.
func (r *report) sharing() int {
	if r.shared == nil {
		return 1
	}
	return r.shared.Size
}
