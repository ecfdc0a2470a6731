// Package workload answers: which selectors does a process have, by the container it is in?
//
// SPIRE's agent names a process by its number, cimad says which container has it and what
// is known of that (LookUpProcess, cima-api(7)), and this package writes it as selectors.
package workload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/packaging/spire/settings"
	"github.com/cima-project/cima/rpc"
)

// patience is how long one attestation may take: a container that starts is measured
// first, and cimad may be restarted meanwhile.
const patience = 20 * time.Second

// Plugin is a WorkloadAttestor of SPIRE's agent. Make it by New.
type Plugin struct {
	workloadattestorv1.UnimplementedWorkloadAttestorServer
	configv1.UnimplementedConfigServer

	log   hclog.Logger
	turns *turns
	ready atomic.Pointer[ready]
}

// ready is what Configure makes.
type ready struct {
	socket string
	policy *policies // nil: none was given
}

// New makes a plug-in that is to be configured.
func New() *Plugin {
	return &Plugin{log: hclog.NewNullLogger(), turns: newTurns()}
}

// SetLogger is called by SPIRE before anything else.
func (p *Plugin) SetLogger(l hclog.Logger) { p.log = l }

// Configure takes the settings *socket* (default: the look-up socket of cimad), *policy*
// and *revocations*: files, whose alternatives are selectors (default: none).
// cimad need not run: the first attestation waits for it.
func (p *Plugin) Configure(_ context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	n, err := read(r.GetHclConfiguration(), p.log)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	p.ready.Store(n)
	return &configv1.ConfigureResponse{}, nil
}

// Validate says whether Configure would take the settings.
func (p *Plugin) Validate(_ context.Context, r *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	if _, err := read(r.GetHclConfiguration(), p.log); err != nil {
		return &configv1.ValidateResponse{Notes: []string{err.Error()}}, nil
	}
	return &configv1.ValidateResponse{Valid: true}, nil
}

func read(text string, log hclog.Logger) (*ready, error) {
	n, file, revocations := &ready{socket: rpc.DefaultLookupSocket}, "", ""
	err := settings.Read(text, map[string]*string{"socket": &n.socket, "policy": &file, "revocations": &revocations})
	switch {
	case err != nil:
		return nil, err
	case file == "" && revocations != "":
		return nil, errors.New("plugin_data: there must be policy where there is revocations")
	case file == "":
		return n, nil
	}
	n.policy = &policies{paths: []string{file}, log: log}
	if revocations != "" {
		n.policy.paths = append(n.policy.paths, revocations)
	}
	_, err = n.policy.current()
	return n, err
}

// Attest gives the selectors of the process that has the number now. SPIRE holds the
// process by its start time, and looks again when all plug-ins have answered, so a
// number that another process has by now gives nobody an identity.
func (p *Plugin) Attest(ctx context.Context, r *workloadattestorv1.AttestRequest) (*workloadattestorv1.AttestResponse, error) {
	n := p.ready.Load()
	if n == nil {
		return nil, status.Error(codes.FailedPrecondition, "not configured")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done, err := p.turns.take(ctx, originOf(int(r.GetPid())))
	switch {
	case errors.Is(err, errTooMany):
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	defer done()
	who, err := lookUp(ctx, n.socket, int(r.GetPid()))
	if err != nil {
		return nil, refusal(ctx, err)
	}
	values := append(selectors(who), n.policy.names(who, time.Now())...)
	p.log.Debug("attested", "pid", who.PID, "selectors", values)
	return &workloadattestorv1.AttestResponse{SelectorValues: values}, nil
}

// lookUp asks on a connection of its own: a cimad that hangs holds up nobody but those
// who wait for it, and the next one reaches its successor.
func lookUp(ctx context.Context, socket string, pid int) (who rpc.ProcessIdentity, err error) {
	client, err := rpc.Dialer{Path: socket, Wait: true}.Dial(ctx)
	if err != nil {
		return who, err
	}
	defer client.Close()
	who, err = client.LookUpProcess(ctx, rpc.ProcessParams{PID: pid})
	if err == nil && (who.PID != pid || (who.Container == nil) == (who.Host == nil)) {
		return who, fmt.Errorf("the answer about process %d is about process %d, in a container and on the host, or in neither", pid, who.PID)
	}
	return who, err
}

// refusal is an error as SPIRE's agent logs it. None gives selectors.
func refusal(ctx context.Context, err error) error {
	var e *rpc.Error
	switch {
	case errors.As(err, &e) && (e.Code == rpc.CodeUnattributed || e.Code == rpc.CodeInvalidParams):
		return status.Errorf(codes.NotFound, "cimad: %v", err)
	case errors.As(err, &e) && e.Code == rpc.CodeDenied:
		return status.Errorf(codes.PermissionDenied, "cimad: %v", err)
	case ctx.Err() != nil:
		return status.Errorf(codes.DeadlineExceeded, "cimad: %v", err)
	}
	return status.Errorf(codes.Unavailable, "cimad: %v", err)
}
