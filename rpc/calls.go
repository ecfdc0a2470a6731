package rpc

import (
	"context"
	"encoding/json/jsontext"
)

// ask is Call with a typed result.
func ask[R any](ctx context.Context, c *Client, method string, params any) (R, error) {
	var result R
	err := c.Call(ctx, method, params, &result)
	return result, err
}

// GetDefaultAlgorithm returns the algorithm of every digest.
func (c *Client) GetDefaultAlgorithm(ctx context.Context) (DefaultAlgorithm, error) {
	return ask[DefaultAlgorithm](ctx, c, MethodGetDefaultAlgorithm, nil)
}

// GetMeasurementCount returns how many registers GetCCMeasurement knows.
func (c *Client) GetMeasurementCount(ctx context.Context) (MeasurementCount, error) {
	return ask[MeasurementCount](ctx, c, MethodGetMeasurementCount, nil)
}

// GetCCMeasurement returns one register: RTMR0–2, or 3, the container's.
func (c *Client) GetCCMeasurement(ctx context.Context, p CCMeasurementParams) (CCMeasurement, error) {
	return ask[CCMeasurement](ctx, c, MethodGetCCMeasurement, p)
}

// GetCCEventLog returns one page of the event log; the next page begins at Next.
func (c *Client) GetCCEventLog(ctx context.Context, p CCEventLogParams) (CCEventLog, error) {
	return ask[CCEventLog](ctx, c, MethodGetCCEventLog, p)
}

// GetCCReport returns a quote and the claims that it is bound to.
func (c *Client) GetCCReport(ctx context.Context, p CCReportParams) (CCReport, error) {
	return ask[CCReport](ctx, c, MethodGetCCReport, p)
}

// GetEvidence returns a bundle of evidence byte by byte as it came, for a relying party.
// DecodeEvidence reads it.
func (c *Client) GetEvidence(ctx context.Context, p EvidenceParams) (jsontext.Value, error) {
	return ask[jsontext.Value](ctx, c, MethodGetEvidence, p)
}

// GetFormedEvidence returns evidence in the form p.Format, which must be another than
// FormatCIMA.
func (c *Client) GetFormedEvidence(ctx context.Context, p EvidenceParams) (FormedEvidence, error) {
	return ask[FormedEvidence](ctx, c, MethodGetEvidence, p)
}

// GetMeasurements returns all registers by name.
func (c *Client) GetMeasurements(ctx context.Context) (Measurements, error) {
	return ask[Measurements](ctx, c, MethodGetMeasurements, nil)
}

// ExtendMeasurement makes an event of the container's own. If the error is
// ErrUnknownOutcome, the event may have been made.
func (c *Client) ExtendMeasurement(ctx context.Context, p ExtendParams) (Extended, error) {
	return ask[Extended](ctx, c, MethodExtendMeasurement, p)
}

// WhoAmI returns the caller as the daemon sees it.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	return ask[Identity](ctx, c, MethodWhoAmI, nil)
}

// Discover returns the OpenRPC description of the daemon's methods.
func (c *Client) Discover(ctx context.Context) (jsontext.Value, error) {
	return ask[jsontext.Value](ctx, c, MethodDiscover, nil)
}

// ListContainers returns every container that the daemon knows of (admin
// socket).
func (c *Client) ListContainers(ctx context.Context) (ContainerList, error) {
	return ask[ContainerList](ctx, c, MethodListContainers, nil)
}

// LookUpProcess returns which container a process is in (look-up and admin socket).
func (c *Client) LookUpProcess(ctx context.Context, p ProcessParams) (ProcessIdentity, error) {
	return ask[ProcessIdentity](ctx, c, MethodLookUpProcess, p)
}

// GetStatus returns the state of the daemon (admin socket).
func (c *Client) GetStatus(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, MethodGetStatus, nil)
}

// Metrics returns the daemon's counters in Prometheus' text form (admin
// socket).
func (c *Client) Metrics(ctx context.Context) (string, error) {
	s, err := ask[Status](ctx, c, MethodGetStatus, StatusParams{Metrics: true})
	return s.Metrics, err
}
