// Package api answers: what do we answer?
//
// It holds the method table of cima-api(7), the rules of who may ask what, the
// accounts that bound what a caller may cause, and evidence. A request comes from
// rpc/server: callers.attach names the caller of a new connection, once; callers.before
// checks before each request that the caller is still the same and within its rate; the
// row of the method table answers; callers.after counts and writes the journal.
package api

import (
	"context"
	"crypto/ed25519"
	"crypto/sha512"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/execs"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// Containers tells what is known of containers; *containers.Manager does.
type Containers interface {
	Use(c peer.Container, inode uint64, cgroupOwner uint32) *containers.Instance
	Release(*containers.Instance)
	Facts(ctx context.Context, i *containers.Instance, checkSame func(context.Context) error) (*containers.Facts, error)
	FactsNow(*containers.Instance) *containers.Facts
	CheckRuns(context.Context, *containers.Instance) error
	Find(ctx context.Context, owner string) (*containers.Instance, error)
	List(context.Context, func(containers.Listed) bool) error
	Count() int
}

// Options say what an API answers with.
type Options struct {
	Version string
	Started time.Time
	BootID  string
	BootLog []byte             // the CCEL, without its padding
	Key     ed25519.PrivateKey // of the agent: signs evidence

	Ledger     *ledger.Ledger
	Containers Containers
	Peers      *peer.Identifier
	TEE        *quotes.TimedTEE
	OSLog      *oslog.Log            // nil: the kernel extends no register for IMA
	Config     func() *config.Config // in force
	Log        *slog.Logger

	Starts *containers.Counts
	Execs  func() *execs.Counts

	LeftOut func() uint64 // messages that the journal's bounds left out
}

// API answers callers.
type API struct {
	Options
	callers  *callers
	counters *counters
	server   *server.Server // for callers; its counts are in the status

	queue   *quotes.Queue
	batches *quotes.Batches
	given   givenQuotes

	agent         rpc.Digest // SHA-384 of the agent's public key: claims.agent
	bootLogDigest rpc.Digest
	bootChunk     chunk
	chunks        chunkCache
	osLogWarned   atomic.Bool // that it gets large
}

// New makes an API.
func New(o Options) (*API, error) {
	a := &API{Options: o, counters: newCounters(methodNames())}
	limits := o.Config().Limits
	a.queue = quotes.NewQueue(o.TEE, 1, limits.ConnectionsPerContainer)
	a.batches = quotes.NewBatches(a.queue)
	a.callers = &callers{
		peers: o.Peers, containers: o.Containers, accounts: newAccounts(limits), counters: a.counters,
		config: o.Config, log: o.Log,
	}
	a.agent = sha512.Sum384(o.Key.Public().(ed25519.PublicKey))
	a.bootLogDigest = sha512.Sum384(o.BootLog)
	var err error
	if a.bootChunk, err = encodeBoot(o.TEE.Parts().BootLog, o.BootLog); err != nil {
		return nil, fmt.Errorf("boot log: %w", err)
	}
	return a, nil
}

// CallerServer makes the server for containers and processes of the host.
func (a *API) CallerServer() *server.Server {
	a.server = a.newServer(a.callerMethods(), a.callers.attach)
	return a.server
}

// AdminServer makes the server for root on the host.
func (a *API) AdminServer() *server.Server {
	return a.newServer(a.adminMethods(), a.callers.attachAdmin)
}

func (a *API) newServer(methods []server.Method, attach func(context.Context, *net.UnixConn) (context.Context, func(), error)) *server.Server {
	l := a.Config().Limits
	return &server.Server{
		Methods: methods,
		Limits: server.Limits{
			Line: l.Line, Reply: l.EvidenceReply, InFlight: l.InFlight,
			Connections: l.Connections, CallerConnections: l.ConnectionsPerContainer,
			Idle: time.Duration(l.Idle), Write: time.Duration(l.Write),
			Connects: l.RequestsPerSecond, ConnectBurst: min(l.RequestsBurst, 2*l.ConnectionsPerContainer),
		},
		Attach: attach,
		Key:    payerName,
		Origin: a.Peers.Origin,
		Before: a.callers.before,
		After:  a.callers.after,
	}
}

// Reload applies limits that changed to the accounts. The limits of the servers stay
// what they were.
func (a *API) Reload(l config.Limits) { a.callers.accounts.reload(l) }

// budget divides the bytes of evidence between its parts.
func (a *API) budget() config.Budget {
	return config.Budget{BootLog: len(a.BootLog), OSLog: a.OSLog != nil}
}

// explain turns an error of another package into the error that a caller gets.
func explain(err error) error {
	if err == nil {
		return nil // the usual case, before anything is allocated
	}
	var wire *rpc.Error
	var inconsistent *ledger.InconsistentError
	var hardware *hw.Error
	switch {
	case errors.As(err, &wire):
		return err
	case errors.As(err, &inconsistent):
		return rpc.LogInconsistent(inconsistent.Count, "no evidence before the next boot: %v", inconsistent).Because(err)
	case errors.Is(err, ledger.ErrReplaced):
		return rpc.Unattributed("%v: connect again", err).Because(err)
	case errors.Is(err, ledger.ErrFull):
		return rpc.Errorf(rpc.CodeTooLarge, "%v", err).Because(err)
	case errors.As(err, &hardware):
		return rpc.TEEUnavailable(err, "%v", hardware)
	}
	return err
}

// withTimeout bounds a wait for the register by limits.register_timeout.
func (a *API) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(a.Config().Limits.RegisterTimeout))
}

// registers reads the registers for a caller.
func (a *API) registers(ctx context.Context) (hw.Registers, error) {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	return a.TEE.Registers(ctx)
}
