package vectors

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
)

// everyCall is the Go client's part of TestEveryCallInContainers: it makes
// every call, meets every error that a caller can meet, and outlives the
// daemon.
func everyCall() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := rpc.Dialer{Wait: true}.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	who, err := c.WhoAmI(ctx)
	if err != nil || who.Container == nil {
		return fmt.Errorf("identity: %+v, %v", who, err)
	}
	if err := errors.Join(registers(ctx, c), quotes(ctx, c), refusals(ctx, c)); err != nil {
		return err
	}
	fmt.Println("restart")
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := afterRestart(ctx, c); err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	again, err := c.WhoAmI(ctx)
	if err != nil || again.Container.ID != who.Container.ID {
		return fmt.Errorf("identity after the restart: %+v, %v", again, err)
	}
	fmt.Println("ok")
	return nil
}

func registers(ctx context.Context, c *rpc.Client) error {
	algorithm, err := c.GetDefaultAlgorithm(ctx)
	if err != nil || algorithm.AlgoID != rpc.AlgoSHA384 {
		return fmt.Errorf("algorithm %+v: %v", algorithm, err)
	}
	m, err := c.GetMeasurements(ctx)
	if err != nil {
		return err
	}
	for i, want := range []rpc.Digest{m.RTMR0, m.RTMR1, m.RTMR2, *m.Container} {
		if got, err := c.GetCCMeasurement(ctx, rpc.CCMeasurementParams{Index: i}); err != nil || got.Hash != want {
			return fmt.Errorf("register %d is %+v, GetMeasurements has %v: %v", i, got, want, err)
		}
	}
	if err := extendOnce(ctx, c, true); err != nil {
		return err
	}
	n := 0
	for _, err := range c.Events(ctx, rpc.CCEventLogParams{Count: 7}) {
		if err != nil {
			return err
		}
		n++
	}
	if page, err := c.GetCCEventLog(ctx, rpc.CCEventLogParams{}); err != nil || page.Total != n {
		return fmt.Errorf("%d records, then %d: %v", n, page.Total, err)
	}
	if err := compared(ctx, c); err != nil {
		return err
	}
	_, err = c.Discover(ctx)
	return err
}

func compared(ctx context.Context, c *rpc.Client) error {
	all, err := c.CompareEventLog(ctx)
	if err != nil || len(all) != 4 {
		return fmt.Errorf("%d registers compared: %v", len(all), err)
	}
	for _, r := range all {
		if !r.Equal() || r.Index != 2 && r.Register == (rpc.Digest{}) {
			return fmt.Errorf("register %d has %v, the log replays to %v", r.Index, r.Register, r.Replayed)
		}
	}
	return nil
}

func quotes(ctx context.Context, c *rpc.Client) error {
	for _, shared := range []bool{false, true} {
		if err := report(ctx, c, shared); err != nil {
			return err
		}
		bundle, err := c.GetEvidence(ctx, rpc.EvidenceParams{Nonce: nonce, UserData: []byte("data"), Shared: shared})
		if err != nil {
			return err
		}
		if err := appraised(ctx, bundle); err != nil {
			return err
		}
	}
	for _, name := range form.Names[1:] {
		formed, err := c.GetFormedEvidence(ctx, rpc.EvidenceParams{Nonce: nonce, Format: name})
		if err != nil || formed.Format != name || len(formed.Content) < 1000 {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	return nil
}

func report(ctx context.Context, c *rpc.Client, shared bool) error {
	r, err := c.GetCCReport(ctx, rpc.CCReportParams{Nonce: nonce, Shared: shared})
	if err != nil {
		return err
	}
	quote, err := dcap.ParseQuote(r.CCReport)
	if err != nil {
		return err
	}
	data, err := rpc.ReportData(r.Claims)
	if err == nil && shared {
		data, err = r.Shared.ReportData(data)
	}
	if err != nil || data != quote.ReportData {
		return fmt.Errorf("the report (shared: %v) must be bound to its claims: %v", shared, err)
	}
	return nil
}

// appraised returns an error unless evidence is authentic; it is not trusted,
// because no policy is given.
func appraised(ctx context.Context, bundle []byte) error {
	roots, err := dcap.ParseRoots([]byte(os.Getenv("CIMA_VECTORS_ROOT")))
	if err != nil {
		return err
	}
	r, err := verify.Appraise(ctx, bundle, verify.Options{Nonce: nonce, TrustRoots: roots})
	if err == nil && r.Verdict != verify.NotTrusted {
		err = fmt.Errorf("%s: %s", r.Verdict, r.Reason)
	}
	return err
}

func refusals(ctx context.Context, c *rpc.Client) error {
	_, short := c.GetEvidence(ctx, rpc.EvidenceParams{Nonce: []byte("short")})
	_, content := c.ExtendMeasurement(ctx, rpc.ExtendParams{Domain: "d", Operation: "o", Content: strings.Repeat("c", 5000)})
	return errors.Join(
		refused(short, rpc.CodeInvalidParams),
		refused(content, rpc.CodeTooLarge),
		refused(c.Call(ctx, rpc.MethodGetStatus, nil, nil), rpc.CodeMethodNotFound),
		refused(c.Call(ctx, rpc.MethodWhoAmI, map[string]string{"pid": strings.Repeat("1", 70000)}, nil), rpc.CodeTooLarge),
	)
}

func refused(err error, code rpc.Code) error {
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != code {
		return fmt.Errorf("the error must be %d, not %w", code, err)
	}
	return nil
}

// afterRestart calls a daemon that grants nothing and allows few quotes.
func afterRestart(ctx context.Context, c *rpc.Client) error {
	if err := compared(ctx, c); err != nil {
		return err
	}
	_, err := c.ExtendMeasurement(ctx, rpc.ExtendParams{Domain: "d", Operation: "o", Content: "c"})
	if err := refused(err, rpc.CodeDenied); err != nil {
		return err
	}
	hasty, err := rpc.Dialer{Patience: -1}.Dial(ctx) // a rate limit is told, not waited out
	if err != nil {
		return err
	}
	defer hasty.Close()
	for err = nil; err == nil && ctx.Err() == nil; {
		_, err = hasty.GetCCReport(ctx, rpc.CCReportParams{Nonce: nonce})
	}
	return refused(err, rpc.CodeRateLimited)
}
