// Package node answers: is this SPIRE agent on a node that the policy knows?
//
// The agent's half gets evidence of its own process from cimad, over the server's nonce.
// The server's half appraises it under a policy, and names the node by the event that
// began the log of its boot.
package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/packaging/spire/settings"
	"github.com/cima-project/cima/rpc"
)

// patience is how long the agent waits for evidence: a quote takes seconds, and cimad may
// be starting.
const patience = time.Minute

// Agent is the half of a NodeAttestor that SPIRE's agent has. Its zero value is to be
// configured.
type Agent struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	configv1.UnimplementedConfigServer

	ready atomic.Pointer[agentReady]
}

type agentReady struct{ socket, trustDomain string }

// Configure takes the setting *socket* (default: cimad's for callers).
func (a *Agent) Configure(_ context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	n, err := readAgent(r.GetCoreConfiguration().GetTrustDomain(), r.GetHclConfiguration())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a.ready.Store(n)
	return &configv1.ConfigureResponse{}, nil
}

// Validate says whether Configure would take the settings.
func (a *Agent) Validate(_ context.Context, r *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	_, err := readAgent(r.GetCoreConfiguration().GetTrustDomain(), r.GetHclConfiguration())
	return validity(err), nil
}

func validity(err error) *configv1.ValidateResponse {
	if err != nil {
		return &configv1.ValidateResponse{Notes: []string{err.Error()}}
	}
	return &configv1.ValidateResponse{Valid: true}
}

func readAgent(trustDomain, text string) (*agentReady, error) {
	n := &agentReady{socket: rpc.DefaultSocket, trustDomain: trustDomain}
	if trustDomain == "" {
		return nil, errNoDomain
	}
	return n, settings.Read(text, map[string]*string{"socket": &n.socket})
}

// AidAttestation answers the server's nonce with evidence of this process. The user data
// are made here alone: a server that chose them could use the evidence elsewhere.
func (a *Agent) AidAttestation(s nodeattestorv1.NodeAttestor_AidAttestationServer) error {
	n := a.ready.Load()
	if n == nil {
		return status.Error(codes.FailedPrecondition, "not configured")
	}
	first := &nodeattestorv1.PayloadOrChallengeResponse{Data: &nodeattestorv1.PayloadOrChallengeResponse_Payload{Payload: []byte(payload)}}
	if err := s.Send(first); err != nil {
		return err
	}
	asked, err := s.Recv()
	if err != nil {
		return err
	}
	evidence, err := n.evidence(s.Context(), asked.GetChallenge())
	if err != nil {
		return err
	}
	return s.Send(&nodeattestorv1.PayloadOrChallengeResponse{
		Data: &nodeattestorv1.PayloadOrChallengeResponse_ChallengeResponse{ChallengeResponse: evidence},
	})
}

func (n *agentReady) evidence(ctx context.Context, nonce []byte) ([]byte, error) {
	if len(nonce) != nonceSize {
		return nil, status.Errorf(codes.InvalidArgument, "the server's challenge has %d bytes and must have %d: is its NodeAttestor \"cima\" of this version?", len(nonce), nonceSize)
	}
	data, err := userData(n.trustDomain)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := rpc.Dialer{Path: n.socket, Wait: true}.Dial(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "cimad: %v", err)
	}
	defer client.Close()
	evidence, err := client.GetEvidence(ctx, rpc.EvidenceParams{Nonce: nonce, UserData: data})
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "cimad: %v", err)
	}
	if len(evidence) > maxEvidence {
		return nil, status.Errorf(codes.ResourceExhausted, "the evidence has %d bytes and must have at most %d: the log of this boot is too long for SPIRE; start the machine again", len(evidence), maxEvidence)
	}
	return evidence, nil
}

// errNoDomain is that of a SPIRE that gives no trust domain.
var errNoDomain = fmt.Errorf("SPIRE gave no trust domain")
