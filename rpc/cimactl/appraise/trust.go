package appraise

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/collateral"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/kds"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Trust holds the flags that name who is trusted for the hardware, and at which time.
type Trust struct {
	root, collateral, at string
	online               bool
	from                 Services
}

// Flags adds them to a command.
func (f *Trust) Flags(c *cobra.Command) {
	c.Flags().StringVar(&f.root, "trust-root", "", "`PEM` root to trust instead of Intel's or AMD's")
	c.Flags().StringVar(&f.collateral, "collateral", "", "`DIR` of collateral: TCB, revocation (cima-evidence(7))")
	c.Flags().BoolVar(&f.online, "online", false, "get it from Intel's or AMD's service, once a day")
	c.Flags().StringVar(&f.from.PCCS, "pccs", "", "with --online: ask this `URL` for Intel's documents")
	c.Flags().StringVar(&f.from.KDS, "kds", "", "with --online: ask this `URL` for AMD's documents")
	c.Flags().StringVar(&f.at, "at", "", "judge as of this `TIME` (RFC 3339), not as of now")
}

// Options reads what the flags name.
func (f *Trust) Options(c *cobra.Command) (opts verify.Options, err error) {
	if f.root != "" {
		if opts.TrustRoots, err = ReadRoots(f.root); err != nil {
			return opts, err
		}
	}
	switch {
	case f.collateral != "" && f.online:
		return opts, errors.New("--collateral and --online must not both be given: collateral comes from files or from a service")
	case f.collateral != "":
		opts.Collateral, opts.AMD = dcap.Dir(f.collateral), snp.Dir(f.collateral)
	case f.online:
		cache, err := Cache(c, f.from, opts.TrustRoots)
		if err != nil {
			return opts, err
		}
		opts.Collateral, opts.AMD = cache, cache
	case f.from.PCCS != "":
		return opts, errors.New("--pccs must come with --online: it names the service to ask")
	case f.from.KDS != "":
		return opts, errors.New("--kds must come with --online: it names the service to ask")
	}
	opts.At, err = ParseTime(f.at)
	return opts, err
}

// ParseTime reads the value of --at. An empty one is the zero time.
func ParseTime(text string) (at time.Time, err error) {
	if text == "" {
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err != nil {
		return at, command.Hinted(fmt.Errorf("--at: %w", err), "write a time as 2026-01-31T12:00:00Z")
	}
	return at, nil
}

// Services are the URLs of who is asked instead of Intel and AMD; "" means these.
type Services struct{ PCCS, KDS string }

// Cache is the user's cache of collateral in front of services. Where a service doesn't answer
// and the cache does, stderr says so.
func Cache(c *cobra.Command, from Services, roots []*x509.Certificate) (*collateral.Cache, error) {
	dir, err := collateral.Folder()
	if err != nil {
		return nil, command.Hinted(err, "set XDG_CACHE_HOME, or HOME")
	}
	return &collateral.Cache{Dir: dir, From: dcap.PCS{API: from.PCCS}, AMD: kds.Service{API: from.KDS}, Roots: roots,
		Warn: func(text string) { fmt.Fprintln(c.ErrOrStderr(), "cimactl: warning:", replay.Printable(text)) }}, nil
}

// ReadRoots reads the certificates of --trust-root.
func ReadRoots(path string) ([]*x509.Certificate, error) {
	text, err := command.ReadBounded(path, 1<<20)
	if err != nil {
		return nil, err
	}
	roots, err := dcap.ParseRoots(text)
	if err != nil {
		return nil, command.Hinted(fmt.Errorf("%s must hold a certificate: %w", path, err), "a trust root must be a certificate in PEM form, and nothing else")
	}
	return roots, nil
}

// CollateralFailure adds a hint to an error of an appraisal that is about collateral,
// and the exit code to one of the network.
func CollateralFailure(err error) error {
	var network *dcap.NetworkError
	var file *dcap.FileError
	var list *snp.FileError
	var paused *collateral.PausedError
	var bad *collateral.BadDocumentError
	var unknown *snp.UnknownKeyError
	switch {
	case errors.As(err, &unknown):
		return &command.Failure{Err: err, Code: command.Network, Hint: "either the report is none of AMD's, or the service has a bad day: try again, or have the host give certificates (cima-platforms(7))"}
	case errors.As(err, &bad):
		return &command.Failure{Err: err, Code: command.Network, Hint: "is this Intel's or AMD's service, or a PCCS that is up to date? `cimactl collateral show` says what the cache has"}
	case errors.As(err, &network), errors.As(err, &paused):
		return &command.Failure{Err: err, Code: command.Network, Hint: "--collateral DIR does without the network; cima-evidence(7) says what is in it"}
	case errors.As(err, &file):
		return command.Hinted(err, "cima-evidence(7), COLLATERAL, says where each file comes from; --online gets them all")
	case errors.As(err, &list):
		return command.Hinted(err, "cima-evidence(7), COLLATERAL, says where AMD's files come from; --online gets them")
	}
	return err
}
