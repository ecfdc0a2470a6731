package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"
	configv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/service/common/config/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/packaging/spire/settings"
)

// Server is the half of a NodeAttestor that SPIRE's server has. Make it by NewServer.
type Server struct {
	nodeattestorv1.UnimplementedNodeAttestorServer
	configv1.UnimplementedConfigServer

	log   hclog.Logger
	ready atomic.Pointer[serverReady]
}

// serverReady are the settings. The files are read for each attestation, so that a
// changed policy or revocation counts from the next one on, without a restart.
type serverReady struct {
	trustDomain                                string
	policy, revocations, trustRoot, collateral string
}

// NewServer makes a server's half that is to be configured.
func NewServer() *Server { return &Server{log: hclog.NewNullLogger()} }

// SetLogger is called by SPIRE before anything else.
func (p *Server) SetLogger(l hclog.Logger) { p.log = l }

// Configure takes the settings *policy* (there must be one), *revocations*, *trust_root*
// and *collateral*: files, and a directory as of `cimactl verify --collateral`.
func (p *Server) Configure(_ context.Context, r *configv1.ConfigureRequest) (*configv1.ConfigureResponse, error) {
	n, err := readServer(r.GetCoreConfiguration().GetTrustDomain(), r.GetHclConfiguration())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	p.ready.Store(n)
	return &configv1.ConfigureResponse{}, nil
}

// Validate says whether Configure would take the settings.
func (p *Server) Validate(_ context.Context, r *configv1.ValidateRequest) (*configv1.ValidateResponse, error) {
	_, err := readServer(r.GetCoreConfiguration().GetTrustDomain(), r.GetHclConfiguration())
	return validity(err), nil
}

func readServer(trustDomain, text string) (*serverReady, error) {
	n := &serverReady{trustDomain: trustDomain}
	if trustDomain == "" {
		return nil, errNoDomain
	}
	err := settings.Read(text, map[string]*string{
		"policy": &n.policy, "revocations": &n.revocations, "trust_root": &n.trustRoot, "collateral": &n.collateral,
	})
	if err != nil {
		return nil, err
	}
	if n.policy == "" {
		return nil, fmt.Errorf("plugin_data: there must be policy: without one no node in particular is trusted")
	}
	if n.collateral != "" {
		if info, err := os.Stat(n.collateral); err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, fmt.Errorf("collateral %s must be a directory", n.collateral)
		}
	}
	_, err = n.options()
	return n, err
}

// options reads the files.
func (n *serverReady) options() (opts verify.Options, err error) {
	var revocations []string
	if n.revocations != "" {
		revocations = []string{n.revocations}
	}
	if opts.Policy, err = policy.Load(n.policy, revocations...); err != nil {
		return opts, err
	}
	if n.collateral != "" {
		opts.Collateral, opts.AMD = dcap.Dir(n.collateral), snp.Dir(n.collateral)
	}
	if n.trustRoot == "" {
		return opts, nil
	}
	text, err := os.ReadFile(n.trustRoot)
	if err != nil {
		return opts, err
	}
	if opts.TrustRoots, err = dcap.ParseRoots(text); err != nil {
		return opts, fmt.Errorf("%s: %w", n.trustRoot, err)
	}
	return opts, nil
}

// Attest challenges an agent with a nonce of its own, and appraises what it answers.
func (p *Server) Attest(s nodeattestorv1.NodeAttestor_AttestServer) error {
	n := p.ready.Load()
	if n == nil {
		return status.Error(codes.FailedPrecondition, "not configured")
	}
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if got := first.GetPayload(); string(got) != payload {
		return status.Errorf(codes.InvalidArgument, "the agent's payload must be %s: is its NodeAttestor \"cima\" of this version?", payload)
	}
	nonce, made := make([]byte, nonceSize), time.Now()
	rand.Read(nonce)
	if err := s.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_Challenge{Challenge: nonce}}); err != nil {
		return err
	}
	answer, err := s.Recv()
	if err != nil {
		return err
	}
	node, err := n.appraise(s.Context(), answer.GetChallengeResponse(), nonce, made)
	if err != nil {
		return err
	}
	p.log.Info("node attested", "id", node.SpiffeId, "selectors", node.SelectorValues)
	return s.Send(&nodeattestorv1.AttestResponse{Response: &nodeattestorv1.AttestResponse_AgentAttributes{AgentAttributes: node}})
}

func (n *serverReady) appraise(ctx context.Context, evidence, nonce []byte, made time.Time) (*nodeattestorv1.AgentAttributes, error) {
	if len(evidence) == 0 || len(evidence) > maxEvidence {
		return nil, status.Errorf(codes.InvalidArgument, "the evidence has %d bytes and must have 1 to %d", len(evidence), maxEvidence)
	}
	opts, err := n.options()
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%v", err)
	}
	data, err := userData(n.trustDomain)
	if err != nil {
		return nil, err
	}
	opts.Nonce, opts.NonceMade, opts.UserData, opts.Verifier = nonce, made, &data, "cima-spire"
	result, err := verify.Appraise(ctx, evidence, opts)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "%v", err)
	}
	if result.Verdict != verify.Trusted {
		return nil, status.Errorf(codes.PermissionDenied, "%s: %s", result.Verdict, result.Reason)
	}
	node, err := describe(n.trustDomain, result)
	if err != nil {
		return nil, status.Errorf(codes.PermissionDenied, "%v", err)
	}
	return node, nil
}
