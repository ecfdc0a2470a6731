package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/hw"
)

// Exit codes of the daemons (cimad(8), EXIT STATUS).
const (
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 6 // EXIT_NOTCONFIGURED of systemd.exec(5)

	// EX_UNAVAILABLE of systemd.exec(5): the machine lacks what the daemon needs.
	// The unit names both, so that systemd does not try again.
	exitUnsupported = 69
)

// drainTime is a little more than the kernel's driver waits for a quote.
const drainTime = 35 * time.Second

// Program is what differs between cimad and cimad-sim.
type Program struct {
	Name    string
	Version string
	Usage   string // one line, behind the name
	About   string // what it is, for --help

	// Flags adds flags of the program's own.
	Flags func(*flag.FlagSet)

	// Open opens the hardware, once flags and configuration are read; pcr is that which
	// holds the log where a vTPM does.
	Open func(ctx context.Context, pcr int, runtimeDir string, log *slog.Logger) (hw.TEE, error)
}

// flags are the flags of both daemons.
type flags struct {
	runtimeDir  string
	config      string
	checkConfig bool
	printConfig bool
	version     bool
	debug       bool
}

// Main runs a daemon until SIGTERM or SIGINT, and returns its exit code.
func Main(p Program, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == gate.GuardCommand {
		return gate.Guard(args[1:])
	}
	var f flags
	set := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.runtimeDir, "runtime-dir", "/run", "`DIR` for sockets and log where no service manager gives sockets")
	set.StringVar(&f.config, "config", config.File, "configuration `FILE`, see cimad.toml(5)")
	set.BoolVar(&f.checkConfig, "check-config", false, "check the configuration and exit")
	set.BoolVar(&f.printConfig, "print-config", false, "print the configuration with the origin of each value, and exit")
	set.BoolVar(&f.debug, "debug", false, "log every call")
	set.BoolVar(&f.version, "version", false, "print the version and exit")
	if p.Flags != nil {
		p.Flags(set)
	}
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "Usage: %s %s\n\n%s\n\n", p.Name, p.Usage, p.About)
		set.SetOutput(stdout)
		set.PrintDefaults()
		return 0
	case err != nil:
		return fail(stderr, p.Name, exitUsage, err, flagHint(p.Name, err))
	case set.NArg() > 0:
		return fail(stderr, p.Name, exitUsage, fmt.Errorf("unexpected argument %q", set.Arg(0)), "`"+p.Name+" --help` lists the flags")
	case f.version:
		fmt.Fprintln(stdout, p.Name, p.Version)
		return 0
	}
	if f.printConfig {
		return printConfig(p.Name, f.config, stdout, stderr)
	}
	config, err := config.Load(f.config)
	if err != nil {
		return fail(stderr, p.Name, exitConfig, err, configHint)
	}
	if f.checkConfig {
		return reportConfigOK(p.Name, f.config, stdout, stderr)
	}
	level := slog.LevelInfo
	if f.debug {
		level = slog.LevelDebug
	}
	log, last := newLogger(stderr, level)
	defer last()
	spareProcessor()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, p, f, config, log); err != nil {
		return fail(stderr, p.Name, exitFor(err), err, hintFor(err))
	}
	return 0
}

// flagHint says what takes the place of a flag of CIMA 0.5's server.
func flagHint(program string, err error) string {
	_, name, _ := strings.Cut(err.Error(), "not defined: -")
	switch name {
	case "sock", "s":
		return "--sock was CIMA 0.5's: the sockets are cimad.socket's, or in --runtime-dir DIR; cima-from-05(7)"
	case "policy", "p":
		return "--policy was CIMA 0.5's: `cimactl policy convert` translates its file, and the daemon has --config FILE; cima-from-05(7)"
	}
	return "`" + program + " --help` lists the flags"
}

const configHint = "cimad.toml(5) describes the configuration"

// printConfig prints what a daemon with this file would have.
func printConfig(program, path string, stdout, stderr io.Writer) int {
	if _, err := os.Stat(path); err != nil && path != config.File {
		return fail(stderr, program, exitConfig, err, "a daemon that is started so has the defaults")
	}
	text, err := config.Print(path)
	if err == nil {
		_, err = io.WriteString(stdout, text)
	}
	if err != nil {
		return fail(stderr, program, exitConfig, err, configHint)
	}
	return 0
}

func exitFor(err error) int {
	if errors.Is(err, hw.ErrUnsupported) {
		return exitUnsupported
	}
	return exitFailure
}

// reportConfigOK reports that the configuration is right. The default file need not
// exist; a file that --config names must.
func reportConfigOK(program, path string, stdout, stderr io.Writer) int {
	what := "ok"
	if _, err := os.Stat(path); err != nil {
		if path != config.File {
			return fail(stderr, program, exitConfig, err, "nothing was checked; a daemon that is started so has the defaults")
		}
		what = "not there, and it need not be: the defaults hold"
	}
	fmt.Fprintf(stdout, "%s: %s\n", path, what)
	return 0
}

// run opens everything, serves, and closes everything.
func run(ctx context.Context, p Program, f flags, config config.Config, log *slog.Logger) error {
	in, err := inherit()
	if err != nil {
		return err
	}
	tee, err := p.Open(ctx, config.PCR, f.runtimeDir, log)
	if err != nil {
		return err
	}
	if hardware, ok := tee.(interface{ Drain(context.Context) error }); ok {
		// Wait for a quote in progress: an interrupted quote would leave the
		// driver's buffer busy for the next daemon.
		defer func() {
			last, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			if err := hardware.Drain(last); err != nil {
				log.Warn("a quote was still in progress", "error", err)
			}
		}()
	}
	executable, err := executableDigest()
	if err != nil {
		return err
	}
	d, err := New(ctx, Options{
		TEE:        tee,
		Config:     config,
		ConfigFile: f.config,
		LogDir:     dirsUnder(f.runtimeDir).log,
		SocketDir:  dirsUnder(f.runtimeDir).socket,
		Version:    p.Version,
		Executable: executable,
		StoredKey:  in.agentKey,
		Log:        log,
	})
	if err != nil {
		return err
	}
	defer d.Close()
	// The log's lock is held from here on: this is the only daemon.
	sockets, err := in.complete(dirsUnder(f.runtimeDir))
	if err != nil {
		return err
	}
	return d.Serve(ctx, sockets)
}

func fail(stderr io.Writer, name string, code int, err error, hint string) int {
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return code
}

// hintFor is the hint for an error that ends the daemon.
func hintFor(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "cimad runs as root; as another user, give cimad-sim a --runtime-dir of your own"
	case errors.Is(err, syscall.EADDRINUSE):
		return "something else listens on the socket: does another daemon run?"
	case errors.Is(err, hw.ErrUnsupported):
		return "`cimactl doctor` says what this machine lacks; cimad-sim needs no TD"
	}
	return ""
}
