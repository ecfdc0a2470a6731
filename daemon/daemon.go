// Package daemon answers: how is it put together?
//
// It makes the managers (ledger, containers, execs, api, …), gives each what it needs,
// and runs them: sockets, the agent's key, the log, reload and the watchdog are here.
// ARCHITECTURE.md has the whole picture.
package daemon

import (
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/api"
	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/execs"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// Options of a daemon.
type Options struct {
	TEE        hw.TEE
	Config     config.Config
	ConfigFile string // read again by Reload; "": never
	LogDir     string // of the runtime log; made if it isn't there
	SocketDir  string // of the socket for containers, which they mount; "": /run/cima
	Version    string
	Executable rpc.Digest // SHA-384 of the running program
	StoredKey  *os.File   // the agent key that a former run left with the service manager
	Log        *slog.Logger

	// Records are where containers are found; nil: where the configuration and the
	// engines' defaults say.
	Records *records.Store

	IMADir string // of the kernel's IMA log; "": where kernels have it

	// Runtimes are held besides those of the configuration; nil: the usual ones.
	Runtimes []string
}

func (o Options) usualRuntimes() []string {
	if o.Runtimes == nil {
		return gate.Usual()
	}
	return o.Runtimes
}

func (o Options) imaDir() string {
	if o.IMADir == "" {
		return oslog.Dir
	}
	return o.IMADir
}

// Daemon is one running daemon.
type Daemon struct {
	opts       Options
	log        *slog.Logger
	engine     *engines.Client
	tee        *quotes.TimedTEE
	ledger     *ledger.Ledger
	key        *agentKey
	policy     atomic.Pointer[config.Config]
	records    atomic.Pointer[records.Store]
	peers      *peer.Identifier
	containers *containers.Manager
	execs      *execs.Manager // nil: executions are not measured
	api        *api.API

	bootLog  []byte
	bootID   string
	osLog    *oslog.Log // nil: the kernel extends no register for IMA
	hostRoot string     // before paths that engines mount at
	hashing  *hashing.Turns
	started  time.Time

	begun     chan struct{} // closed when the start is logged, or can't be
	notBegun  error         // why it can't be; set before begun is closed
	beginning sync.WaitGroup
	end       context.CancelFunc
	closing   sync.Once
}

// New opens the runtime log, loads or makes the agent key, and logs that the daemon
// started. It asks no engine: an engine may start after the daemon.
func New(ctx context.Context, opts Options) (*Daemon, error) {
	if err := opts.Config.OnPlatform(opts.TEE.Parts().Anchor); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	d := &Daemon{opts: opts, log: opts.Log, started: time.Now(), hostRoot: hostRoot(), hashing: hashing.New(), begun: make(chan struct{}), end: end}
	d.engine = engines.New(engineOptions(opts.Config))
	d.tee = quotes.NewTimedTEE(opts.TEE)
	d.adopt(opts.Config)
	if os.Geteuid() != 0 {
		d.log.Warn("not root: containers can't be distinguished and are refused; host processes are answered")
	}
	if err := d.readBoot(); err != nil {
		return nil, err
	}
	if err := d.openOSLog(ctx); err != nil {
		return nil, err
	}
	if err := d.budget().Check(&opts.Config.Limits); err != nil {
		return nil, err
	}
	if err := makeDir(opts.LogDir, 0o700); err != nil {
		return nil, fmt.Errorf("runtime log: %w", err)
	}
	var err error
	if d.key, err = takeKey(opts.StoredKey, d.log); err != nil {
		return nil, err
	}
	d.ledger, err = ledger.Open(ctx, ledger.Options{
		Dir: opts.LogDir, BootID: d.bootID, Anchor: opts.Config.Anchor, PCR: opts.Config.PCR, Register: d.tee,
		Limits: opts.Config.LogLimits(d.budget()), Log: d.log,
	})
	if err != nil {
		d.key.memfd.Close()
		return nil, err
	}
	if err := d.openManagers(); err != nil {
		d.Close()
		return nil, err
	}
	d.beginning.Go(func() {
		d.notBegun = d.begin(life)
		close(d.begun)
	})
	waiting, cancel := context.WithTimeout(ctx, time.Duration(opts.Config.Limits.RegisterTimeout))
	defer cancel()
	if err := d.waitBegun(waiting); err != nil {
		d.Close()
		return nil, err
	}
	if waiting.Err() != nil {
		d.log.Error("no evidence can be given yet: the register does not answer")
	}
	return d, nil
}

// readBoot reads what stays the same until the next boot.
func (d *Daemon) readBoot() error {
	id, err := d.opts.TEE.BootID()
	if err != nil {
		return fmt.Errorf("boot id: %w", err)
	}
	whole, err := d.opts.TEE.BootLog()
	if err != nil {
		return err // it names what was read
	}
	d.bootID = id
	if d.opts.TEE.Parts().BootLog != hw.BootLogCCEL {
		d.bootLog = whole // without padding
		return nil
	}
	if d.bootLog, err = boot.Trim(whole); err != nil {
		return fmt.Errorf("boot log: %w", err)
	}
	return nil
}

// budget divides the bytes of evidence between its parts.
func (d *Daemon) budget() config.Budget {
	return config.Budget{BootLog: len(d.bootLog), OSLog: d.osLog != nil}
}

func takeKey(stored *os.File, log *slog.Logger) (*agentKey, error) {
	if stored != nil {
		key, err := loadAgentKey(stored)
		if err == nil {
			return key, nil
		}
		// The new key is in a new start event, so verifiers see the change.
		log.Warn("the stored agent key can't be used; making a new one", "error", err)
		stored.Close()
	}
	key, err := newAgentKey()
	if err != nil {
		return nil, err
	}
	switch kept, err := key.store(); {
	case err != nil:
		log.Warn("the agent key won't survive a restart of the daemon", "error", err)
	case !kept:
		log.Info("the agent key won't survive a restart of the daemon: no service manager stores it")
	}
	return key, nil
}

func (d *Daemon) openManagers() (err error) {
	if d.peers, err = peer.New(peer.Options{Records: recordSource{d.store}}); err != nil {
		return err
	}
	d.containers, err = containers.New(containers.Options{
		Ledger: d.ledger, Records: d.store, Images: d.engine, Peers: d.peers, Config: d.config,
		Log: d.log, Dir: d.opts.LogDir, HostRoot: d.hostRoot,
	})
	if err != nil {
		return err
	}
	d.api, err = api.New(api.Options{
		Version: d.opts.Version, Started: d.started, BootID: d.bootID, BootLog: d.bootLog, Key: d.key.private,
		Ledger: d.ledger, Containers: d.containers, Peers: d.peers, TEE: d.tee, OSLog: d.osLog,
		Config: d.config, Log: d.log, Starts: &d.containers.Counts, Execs: d.execCounts, LeftOut: leftOut(d.log),
	})
	return err
}

// hostRoot is the path of the host's root directory from a mount namespace of the
// daemon's own, as cimad.service has one: not every mount of an engine reaches that
// namespace. It is "" in the host's own namespace, or if that can't be found out.
func hostRoot() string {
	own, err := os.Readlink("/proc/self/ns/mnt")
	hosts, failed := os.Readlink("/proc/1/ns/mnt")
	if err != nil || failed != nil || own == hosts {
		return ""
	}
	return "/proc/1/root"
}

// launchOptions say where the records are.
func launchOptions(c config.Config, hostRoot string) records.Options {
	if os.Geteuid() != 0 {
		// Only root can read records. Without them callers in containers are
		// refused, and processes of the host are answered.
		return records.Options{Places: []records.Place{}}
	}
	o := records.Options{
		Places: records.DefaultPlaces(),
		Rules:  launch.Rules{Labels: c.Launch.Labels, Public: c.Launch.Public},

		HostRoot: hostRoot, Data: c.Launch.Data, DataRead: c.Launch.DataRead,
	}
	if root := c.Engines.DockerExecRoot; root != config.DefaultExecRoot {
		o.Places = slices.Insert(o.Places, 0, records.DockerPlace(root)) // the docker that is in use names its containers first
	}
	return o
}

// engineOptions say which engines are asked. Only root asks them.
func engineOptions(c config.Config) engines.Options {
	o := engines.Options{Engines: []engines.Engine{}} // nil would be those that are usual
	if os.Geteuid() != 0 {
		return o
	}
	for _, e := range []engines.Engine{{Runtime: "docker", Socket: c.Engines.Docker}, {Runtime: "podman", Socket: c.Engines.Podman}} {
		if e.Socket != "" {
			o.Engines = append(o.Engines, e)
		}
	}
	return o
}

// Close releases what New opened.
func (d *Daemon) Close() {
	d.closing.Do(func() {
		d.end()
		d.beginning.Wait()
		if d.peers != nil {
			d.peers.Close()
		}
		if d.containers != nil {
			d.containers.Close()
		}
		if d.osLog != nil {
			d.osLog.Close()
		}
		if err := d.ledger.Close(); err != nil {
			d.log.Warn("the log is not closed", "error", err)
		}
		d.key.memfd.Close()
	})
}

// executableDigest is the SHA-384 of the program that runs: of its inode, not of the
// file that has its name by now.
func executableDigest() (digest rpc.Digest, err error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return digest, err
	}
	defer f.Close()
	h := sha512.New384()
	if _, err := io.Copy(h, f); err != nil {
		return digest, err
	}
	h.Sum(digest[:0])
	return digest, nil
}
